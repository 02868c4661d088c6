"""What the pages' buttons do: each a change of `control`, `queues`, `scheduler` or `workers`, told in a sentence."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from django.core.exceptions import ValidationError
from django.forms import DateTimeField
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from rq.job import Job

from jobs import bulk, control, queues, scheduler
from jobs.attempts import profiles
from jobs.bulk import CHANGES
from jobs.dashboard import texts
from jobs.dashboard.lists import FILTERS, query_of
from jobs.dashboard.wrappers import Done
from jobs.errors import ChangeRefusedError
from jobs.inspection import Count, find, workers
from jobs.job import MandateJob

MOST_AT_ONCE = 500  # jobs that a request changes itself; more are changed by a job

# The permission that each change of a job needs.
NEEDS = dict.fromkeys(("retry", "run_now", "move", "reschedule", "copy", "profile"), "retry")
NEEDS |= {"cancel": "cancel", "delete": "delete"}
ASKED = ("cancel", "delete")  # changes that cannot be taken back

# --- one job ---------------------------------------------------------------------------------


def change_job(name: str) -> Callable[..., Done]:
    """The action of that name on one job."""

    def change(request: HttpRequest, job_id: str) -> Done:
        CHANGES[name](_known(job_id))
        return Done(texts.changed_one(name, job_id))

    return change


def ask_job(name: str) -> Callable[..., str] | None:
    """Whether that is wanted, where it cannot be taken back."""
    return (lambda request, job_id: texts.ask_one(name, job_id)) if name in ASKED else None


def retry_job(request: HttpRequest, job_id: str) -> Done:
    """Run a job again: in its queue, or in another one of its server."""
    queue = request.POST.get("queue", "")
    control.retry(_known(job_id), queue=queues.check(queue) if queue else "")
    if queue:
        return Done(_("Job %(id)s was retried in %(queue)s.") % {"id": job_id, "queue": queue})
    return Done(texts.changed_one("retry", job_id))


def move_job(request: HttpRequest, job_id: str) -> Done:
    """Move a queued job to another queue of its server."""
    queue = queues.check(request.POST.get("queue", ""))
    control.move(_known(job_id), queue)
    return Done(_("Job %(id)s was moved to %(queue)s.") % {"id": job_id, "queue": queue})


def reschedule_job(request: HttpRequest, job_id: str) -> Done:
    """Change when a scheduled job runs: `at`, in the reader's time zone."""
    given = request.POST.get("at", "")
    try:
        at = DateTimeField().clean(given)
    except ValidationError as error:
        told = _("%(given)r is no time: %(why)s") % {"given": given, "why": " ".join(error.messages)}
        raise ChangeRefusedError(told) from None
    try:
        control.reschedule(_known(job_id), at)
    except ValueError as error:
        raise ChangeRefusedError(str(error)) from None
    return Done(_("Job %(id)s was rescheduled.") % {"id": job_id})


def profile_job(request: HttpRequest, job_id: str) -> Done:
    """Have the next attempt at a job profiled."""
    control.profile(_known(job_id))
    return Done(_("The next attempt at job %(id)s will be profiled.") % {"id": job_id})


def copy_job(request: HttpRequest, job_id: str) -> Done:
    """Enqueue another job like that one."""
    made = queues.copy(_known(job_id)).id
    return Done(_("A copy of job %(id)s was enqueued, as job %(copy)s.") % {"id": job_id, "copy": made})


def _known(job_id: str) -> MandateJob:
    job = find(job_id)
    if job is None:
        raise ChangeRefusedError(_("There is no record of job %(id)s any more.") % {"id": job_id})
    return job


# --- many jobs -------------------------------------------------------------------------------


def change_many(name: str) -> Callable[..., Done]:
    """The action of that name on the jobs selected in a list, or on all that its filters mean."""

    def change(request: HttpRequest, state: str) -> Done:
        if not request.POST.get("all"):
            return _changed(name, list(map(find, _selected(request))))
        query = query_of(request.POST, state)
        count = query.count()
        if count.value > MOST_AT_ONCE or count.more:
            return _by_a_job(name, state, _filters(request), count)
        return _changed(name, [row.job for row in query.all()])

    return change


def ask_many(name: str) -> Callable[..., str]:
    """Whether that is wanted, and of how many: of all that the filters mean, or where it cannot be taken back."""

    def ask(request: HttpRequest, state: str) -> str:
        if request.POST.get("all"):
            count = query_of(request.POST, state).count()
            if not texts.number(count):
                raise ChangeRefusedError(_("There is no such job by now."))
            return texts.ask_many(name, count)
        return texts.ask_many(name, Count(len(_selected(request)))) if name in ASKED else ""

    return ask


def _changed(name: str, found: Sequence[Job | None]) -> Done:
    """Change those that there are. Raises ChangeRefusedError where none could be."""
    there = [job for job in found if job is not None]
    changed, refused = bulk.apply(name, there)
    told = texts.changed_many(name, changed, refused + len(found) - len(there))
    if not changed:
        raise ChangeRefusedError(told)
    return Done(told)


def clear_queue(request: HttpRequest, queue: str) -> Done:
    """Delete all that is in a queue."""
    waiting = queues.lengths()[queues.check(queue)]
    if waiting > MOST_AT_ONCE:
        return _by_a_job(bulk.CLEAR, "queued", {"queue": queue}, Count(waiting))
    return Done(texts.changed_many(bulk.CLEAR, sum(control.clear(queue, datetime.now(UTC))), 0))


def ask_clear(request: HttpRequest, queue: str) -> str:
    """Whether that is wanted, and of how many."""
    waiting = queues.lengths()[queues.check(queue)]
    if not waiting:
        raise ChangeRefusedError(_("The queue %(queue)s is empty.") % {"queue": queue})
    told = ngettext(
        "Delete the %(n)s job that waits in the queue %(queue)s?",
        "Delete all %(n)s jobs that wait in the queue %(queue)s?",
        waiting,
    )
    return told % {"n": f"{waiting:,}", "queue": queue}


def _by_a_job(name: str, state: str, filters: dict[str, str], count: Count) -> Done:
    change = bulk.start(name, state, filters, count)
    return Done(texts.changing_many(name, count), reverse("admin:jobs_change", args=[change.id]))


def _selected(request: HttpRequest) -> list[str]:
    if not (selected := list(dict.fromkeys(request.POST.getlist("job")))):
        raise ChangeRefusedError(_("No job was selected."))
    return selected


def _filters(request: HttpRequest) -> dict[str, str]:
    return {name: request.POST[name] for name in FILTERS if request.POST.get(name)}


# --- queues, entries, workers ----------------------------------------------------------------


def pause_queue(request: HttpRequest, queue: str) -> Done:
    queues.pause(queue)
    return Done(_("The queue %(queue)s is paused.") % {"queue": queue})


def resume_queue(request: HttpRequest, queue: str) -> Done:
    queues.resume(queue)
    return Done(_("The queue %(queue)s goes on.") % {"queue": queue})


def pause_entry(request: HttpRequest, name: str) -> Done:
    scheduler.pause(name)
    return Done(_("The recurring entry %(name)s is paused.") % {"name": name})


def resume_entry(request: HttpRequest, name: str) -> Done:
    scheduler.resume(name)
    return Done(_("The recurring entry %(name)s goes on.") % {"name": name})


def run_entry(request: HttpRequest, name: str) -> Done:
    made = scheduler.run_now(name)
    return Done(_("The recurring entry %(name)s runs now, as job %(id)s.") % {"name": name, "id": made})


def tell_worker(command: str) -> Callable[..., Done]:
    """The action that tells a worker something; or the workers that are selected in their list."""

    def change(request: HttpRequest, name: str = "") -> Done:
        names = _named(request, name)
        for each in names:
            workers.tell(each, command)
        told = {
            "quiet": _("Told to take no more jobs: %(names)s."),
            "stop": _("Told to stop: %(names)s."),
            "stacks": ngettext(
                "Told to show its stacks: %(names)s. They are on its page in a moment.",
                "Told to show their stacks: %(names)s. They are on their pages in a moment.",
                len(names),
            ),
            "profile": ngettext(
                "Told to profile its next %(n)s attempts: %(names)s. They are among the profiles then.",
                "Told to profile their next %(n)s attempts each: %(names)s. They are among the profiles then.",
                len(names),
            ),
        }
        gone = reverse("admin:jobs_workers") if command == "stop" else ""  # its own page may be gone when one arrives
        return Done(told[command] % {"names": _few(names), "n": profiles.NEXT_ONES}, gone)

    return change


def ask_worker(command: str) -> Callable[..., str] | None:
    """Whether that is wanted, of one that does not come back by itself."""

    def ask(request: HttpRequest, name: str = "") -> str:
        return _("Stop %(names)s? What runs has 25 seconds to end.") % {"names": _few(_named(request, name))}

    return ask if command == "stop" else None


def _named(request: HttpRequest, name: str) -> list[str]:
    if not (names := [name] if name else request.POST.getlist("worker")):
        raise ChangeRefusedError(_("No worker was selected."))
    return names


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    more = ngettext("%(shown)s and %(n)s more", "%(shown)s and %(n)s more", len(names) - 5)
    return more % {"shown": shown, "n": len(names) - 5} if len(names) > 5 else shown
