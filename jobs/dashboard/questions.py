"""The confirmation questions: how many jobs a change concerns, of which commands and errors, and some of them."""

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from jobs import bulk, queues
from jobs.dashboard import texts
from jobs.dashboard.lists import FILTERS, GROUPED, query_of
from jobs.dashboard.wrappers import Question
from jobs.errors import ChangeRefusedError
from jobs.inspection import Count, find
from jobs.inspection.rows import Row
from jobs.job import JobState, MandateJob

CONFIRMED = ("cancel", "delete")  # changes that cannot be undone
SAMPLES = 5  # jobs that a question shows
PARTS = 6  # commands, and errors, that a question counts


def ask_job(name: str) -> Callable[..., Question | None] | None:
    """Return the function that asks before the change of one job, or None if it can be undone."""

    def ask(request: HttpRequest, job_id: str) -> Question:
        job = find(job_id)
        does = texts.verb_for(name, job.state if job else None)
        sample = [_sample(job)] if job else []
        return Question(
            text=texts.ask_one(does, job_id),
            verb=str(texts.NAMES[does]),
            is_danger=name == "delete",
            note=texts.consequence(does),
            samples=sample,
        )

    return ask if name in CONFIRMED else None


def ask_anew(request: HttpRequest, job_id: str) -> Question:
    """Return the question before a job does its steps anew."""
    job, step = find(job_id), request.POST.get("step", "")
    text = _("Have job %(id)s do all of its steps anew?") % {"id": job_id}
    if step:
        text = _("Have job %(id)s go on from the step %(step)s?") % {"id": job_id, "step": step}
    note = _("What these steps have done is done a second time. Their results and cursors are forgotten.")
    return Question(text=text, verb=str(texts.NAMES["anew"]), note=note, samples=[_sample(job)] if job else [])


def ask_force(request: HttpRequest, job_id: str) -> Question:
    """Return the question before a limited job goes past its limits."""
    job = find(job_id)
    text = _("Run job %(id)s now, past its limits?") % {"id": job_id}
    note = _("It runs beside the jobs that own the slots of its limits, and counts like one of them.")
    sample = [_sample(job)] if job else []
    return Question(text=text, verb=str(texts.NAMES["force"]), is_danger=True, note=note, samples=sample)


def ask_many(name: str) -> Callable[..., Question | None]:
    """
    Return the function that asks before a change of many jobs.

    It asks if all jobs that match the filters are meant, or if the change cannot be undone.
    """

    def ask(request: HttpRequest, state: str) -> Question | None:
        does = texts.verb_for(name, state)
        shared: dict[str, Any] = {
            "verb": str(texts.NAMES[does]),
            "is_danger": name == "delete",
            "note": texts.consequence(does),
        }
        if not request.POST.get("all"):
            if name not in CONFIRMED:
                return None
            ids = selected(request)
            samples = [_sample(job) for job in map(find, ids[:SAMPLES]) if job is not None]
            return Question(text=texts.ask_many(does, Count(len(ids))), samples=samples, **shared)
        query = query_of(request.POST, state)
        count = query.count()
        if not texts.number(count):
            raise ChangeRefusedError(_("No matching jobs are left."))
        rows = list(query.all(GROUPED))
        return Question(
            text=texts.ask_many(does, count),
            filters=_filters(request, state),
            parts=_parts(rows),
            looked_at=len(rows) if count.more or count.value > len(rows) else 0,
            samples=[(row.id, row.description, row.reason) for row in rows[:SAMPLES]],
            **shared,
        )

    return ask


def ask_clear(request: HttpRequest, queue: str) -> Question:
    """Return the question before all jobs of a queue are deleted. ChangeRefusedError if the queue is empty."""
    waiting = queues.lengths()[queues.check(queue)]
    if not waiting:
        raise ChangeRefusedError(_("The queue %(queue)s is empty.") % {"queue": queue})
    question = ngettext(
        "Delete the %(n)s job that waits in the queue %(queue)s?",
        "Delete all %(n)s jobs that wait in the queue %(queue)s?",
        waiting,
    )
    rows = list(query_of({"queue": queue}, JobState.QUEUED.value).all(GROUPED))
    return Question(
        text=question % {"n": f"{waiting:,}", "queue": queue},
        verb=str(texts.NAMES[bulk.CLEAR]),
        is_danger=True,
        note=texts.consequence("delete"),
        parts=_parts(rows),
        looked_at=len(rows) if waiting > len(rows) else 0,
        samples=[(row.id, row.description, row.reason) for row in rows[:SAMPLES]],
    )


def selected(request: HttpRequest) -> list[str]:
    """Return the ids of the selected rows. ChangeRefusedError if there is none."""
    if not (ids := list(dict.fromkeys(request.POST.getlist("job")))):
        raise ChangeRefusedError(_("No job was selected."))
    return ids


def _sample(job: MandateJob) -> tuple[str, str, str]:
    return job.id, job.description or "", job.reason or ""


def _filters(request: HttpRequest, state: str) -> list[tuple[str, str]]:
    given = [(name, request.POST[name]) for name in FILTERS if name != "order" and request.POST.get(name)]
    return [(_("state"), str(texts.NAMES[state])), *given]


def _parts(rows: Iterable[Row]) -> list[tuple[str, list[tuple[str, int]]]]:
    """Return the numbers of jobs by command and by error, the largest first; an empty list of one that all lack."""
    rows = list(rows)
    by_command, by_error = Counter(row.command for row in rows), Counter(row.error for row in rows if row.error)
    counted = [(_("By command"), by_command), (_("By error"), by_error)]
    return [(heading, list(islice(_most(of), PARTS + 1))) for heading, of in counted if of]


def _most(counted: Counter[str]) -> Iterable[tuple[str, int]]:
    most = counted.most_common(PARTS)
    yield from ((name or _("(none)"), number) for name, number in most)
    if rest := counted.total() - sum(number for _name, number in most):
        yield _("others"), rest
