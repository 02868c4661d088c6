"""The pages' actions: each calls `control`, `queues`, `scheduler` or `workers` and reports the change in a sentence."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from django.core.exceptions import PermissionDenied, ValidationError
from django.forms import DateTimeField
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from rq.job import Job

from jobs import bulk, control, queues, scheduler
from jobs.attempts import profiles
from jobs.bulk import CHANGES
from jobs.dashboard import texts
from jobs.dashboard.lists import FILTERS, query_of
from jobs.dashboard.navigation import address
from jobs.dashboard.permissions import may
from jobs.dashboard.questions import selected
from jobs.dashboard.wrappers import Done, Question
from jobs.errors import ChangeRefusedError
from jobs.inspection import Count, activity, find, workers
from jobs.job import MandateJob

MOST_AT_ONCE = 500  # jobs that a request changes itself; a job changes more than that

# The permission that each change of a job requires.
NEEDS = dict.fromkeys(("retry", "run_now", "move", "reschedule", "copy", "profile", "anew", "force"), "retry")
NEEDS |= {"cancel": "cancel", "delete": "delete"}

# --- one job ---------------------------------------------------------------------------------


def change_job(name: str) -> Callable[..., Done]:
    """Return the action that makes the named change to one job."""

    def change(request: HttpRequest, job_id: str) -> Done:
        job = _changeable(request, job_id) if NEEDS[name] == "retry" else _existing(job_id)
        does = texts.verb_for(name, job.state) if name == "cancel" else name
        CHANGES[name](job)
        text = texts.changed_one(does, job_id)
        return Done(text, change=activity.Change("", does, text))

    return change


def force_job(request: HttpRequest, job_id: str) -> Done:
    """Run a limited job now, past its limits."""
    control.run_now(_changeable(request, job_id), force=True)
    text = _("Job %(id)s was set to run now, past its limits.") % {"id": job_id}
    return Done(text, change=activity.Change("", "run_now", text))


def retry_job(request: HttpRequest, job_id: str) -> Done:
    """Retry a job, in its own queue or in another queue on the same server."""
    queue = request.POST.get("queue", "")
    control.retry(_changeable(request, job_id), queue=queues.check(queue) if queue else "")
    if queue:
        return Done(_("Job %(id)s was retried in %(queue)s.") % {"id": job_id, "queue": queue})
    return Done(texts.changed_one("retry", job_id))


def move_job(request: HttpRequest, job_id: str) -> Done:
    """Move a queued job to another queue on the same server."""
    queue = queues.check(request.POST.get("queue", ""))
    control.move(_changeable(request, job_id), queue)
    return Done(_("Job %(id)s was moved to %(queue)s.") % {"id": job_id, "queue": queue})


def reschedule_job(request: HttpRequest, job_id: str) -> Done:
    """Change the time at which a scheduled job runs; the form's `at` is in the user's time zone."""
    given = request.POST.get("at", "")
    try:
        at = DateTimeField().clean(given)
    except ValidationError as error:
        text = _("Invalid time %(given)r: %(why)s") % {"given": given, "why": " ".join(error.messages)}
        raise ChangeRefusedError(text) from None
    if timezone.is_naive(at):  # with USE_TZ = False
        at = timezone.make_aware(at)
    try:
        control.reschedule(_changeable(request, job_id), at)
    except ValueError as error:
        raise ChangeRefusedError(str(error)) from None
    return Done(_("Job %(id)s was rescheduled.") % {"id": job_id})


def profile_job(request: HttpRequest, job_id: str) -> Done:
    """Profile the next attempt at a job."""
    control.profile(_changeable(request, job_id))
    return Done(_("The next attempt at job %(id)s will be profiled.") % {"id": job_id})


def begin_anew(request: HttpRequest, job_id: str) -> Done:
    """Have a job do its steps anew, from the one that the form names or all of them."""
    control.begin_anew(_changeable(request, job_id), request.POST.get("step", ""))
    return Done(_("Job %(id)s begins anew.") % {"id": job_id})


def copy_job(request: HttpRequest, job_id: str) -> Done:
    """Enqueue a copy of a job."""
    copy_id = queues.copy(_changeable(request, job_id)).id
    return Done(_("A copy of job %(id)s was enqueued, as job %(copy)s.") % {"id": job_id, "copy": copy_id})


def _existing(job_id: str) -> MandateJob:
    job = find(job_id)
    if job is None:
        raise ChangeRefusedError(_("There is no record of job %(id)s any more.") % {"id": job_id})
    return job


def _changeable(request: HttpRequest, job_id: str) -> MandateJob:
    """Return the job. PermissionDenied if it is a bulk change, and the user lacks the right of that change."""
    job = _existing(job_id)
    if not _may_start(request, job):
        raise PermissionDenied
    return job


def _may_start(request: HttpRequest, job: Job) -> bool:
    """Whether the user may start this job again: a bulk change needs the right of what it does."""
    try:
        name, change = (*job.args, job.kwargs.get("change"))[:2]
    except Exception:  # an unreadable payload, or one without arguments, changes nothing
        return True
    return name != bulk.COMMAND or may(request, NEEDS.get(change, "delete"))


# --- many jobs -------------------------------------------------------------------------------


def change_many(name: str) -> Callable[..., Done]:
    """Return the action that changes the jobs selected in a list, or all jobs that match its filters."""

    def change(request: HttpRequest, state: str) -> Done:
        if not request.POST.get("all"):
            return _changed(request, name, list(map(find, selected(request))), state)
        query = query_of(request.POST, state)
        count, about = query.count(), _about(request, name, state)
        if count.value > MOST_AT_ONCE or count.more:
            return _by_a_job(request, name, state, _filters(request), count)
        rows = list(query.all())
        jobs = [find(row.id) if row.command == bulk.COMMAND else row.job for row in rows]
        done = _changed(request, name, jobs, state)
        if name == "retry" and query.fingerprint:
            bulk.follow(query.fingerprint, rows, anew=True)
        return replace(done, change=replace(about, count=str(count)))

    return change


def _changed(request: HttpRequest, name: str, jobs: Sequence[Job | None], state: str) -> Done:
    """
    Change the jobs, but not the bulk changes that the user may not start. None stands for a job without a record.
    Raises ChangeRefusedError if no job was changed.
    """
    existing = [job for job in jobs if job is not None and (NEEDS[name] != "retry" or _may_start(request, job))]
    changed, refused = bulk.apply(name, existing)
    does = texts.verb_for(name, state)
    text = texts.changed_many(does, changed, refused + len(jobs) - len(existing))
    if not changed:
        raise ChangeRefusedError(text)
    about = activity.Change("", does, text, count=f"{changed:,}")
    return Done(text, change=about, ids=[job.id for job in existing])


def clear_queue(request: HttpRequest, queue: str) -> Done:
    """Delete all jobs of a queue."""
    waiting = queues.lengths()[queues.check(queue)]
    if waiting > MOST_AT_ONCE:
        return _by_a_job(request, bulk.CLEAR, "queued", {"queue": queue}, Count(waiting))
    return Done(texts.changed_many(bulk.CLEAR, sum(control.clear(queue, datetime.now(UTC))), 0))


def _by_a_job(request: HttpRequest, name: str, state: str, filters: dict[str, str], count: Count) -> Done:
    sample = [row.id for row in query_of(filters, state).page(size=activity.SAMPLE).rows]
    change, about = bulk.start(name, state, filters, count), _about(request, name, state)
    about = replace(about, filters=filters, queue=filters.get("queue", ""), count=str(count))
    text = texts.changing_many(texts.verb_for(name, state), count)
    return Done(text, address(request, "jobs_change", change.id), change=about, ids=sample)


def _about(request: HttpRequest, name: str, state: str) -> activity.Change:
    """Return what the activity says of a change of many jobs, as far as the form has it."""
    filters = _filters(request)
    does = texts.verb_for(name, state)
    return activity.Change("", does, "", state=state, filters=filters, queue=filters.get("queue", ""))


def _filters(request: HttpRequest) -> dict[str, str]:
    return {name: request.POST[name] for name in FILTERS if request.POST.get(name)}


# --- queues, entries, workers ----------------------------------------------------------------


def pause_queue(request: HttpRequest, queue: str) -> Done:
    queues.pause(queue)
    return Done(_("The queue %(queue)s is paused.") % {"queue": queue})


def resume_queue(request: HttpRequest, queue: str) -> Done:
    queues.resume(queue)
    return Done(_("The queue %(queue)s was resumed.") % {"queue": queue})


def pause_entry(request: HttpRequest, name: str) -> Done:
    scheduler.pause(name)
    return Done(_("The recurring entry %(name)s is paused.") % {"name": name})


def resume_entry(request: HttpRequest, name: str) -> Done:
    scheduler.resume(name)
    return Done(_("The recurring entry %(name)s was resumed.") % {"name": name})


def run_entry(request: HttpRequest, name: str) -> Done:
    if not _may_start(request, scheduler.get(name).job):
        raise PermissionDenied
    job_id = scheduler.run_now(name)
    return Done(_("The recurring entry %(name)s runs now, as job %(id)s.") % {"name": name, "id": job_id})


def send_to_workers(command: str) -> Callable[..., Done]:
    """Return the action that sends a command to one worker, or to the workers selected in the list."""

    def change(request: HttpRequest, name: str = "") -> Done:
        names = _named(request, name)
        for each in names:
            workers.send(each, command)
        sentences = {
            "quiet": _("Asked %(names)s to take no more jobs."),
            "stop": _("Asked %(names)s to stop."),
            "stacks": ngettext(
                "Asked %(names)s to show its stacks. They will be on its page in a moment.",
                "Asked %(names)s to show their stacks. They will be on their pages in a moment.",
                len(names),
            ),
            "profile": ngettext(
                "Asked %(names)s to profile its next %(n)s attempts. They will be on the page Profiles.",
                "Asked %(names)s to profile their next %(n)s attempts each. They will be on the page Profiles.",
                len(names),
            ),
        }
        url = address(request, "jobs_workers") if command == "stop" else ""  # the worker's own page may be gone by then
        return Done(sentences[command] % {"names": _few(names), "n": profiles.NEXT_ONES}, url)

    return change


def ask_worker(command: str) -> Callable[..., Question] | None:
    """Return the function that asks for confirmation of `stop`: a stopped worker does not start again by itself."""

    def ask(request: HttpRequest, name: str = "") -> Question:
        text = _("Stop %(names)s? Running jobs have 25 seconds to finish.") % {"names": _few(_named(request, name))}
        note = _("A stopped worker starts again only if a supervisor or a person starts it.")
        return Question(text=text, verb=str(texts.NAMES["stop"]), is_danger=True, note=note)

    return ask if command == "stop" else None


def _named(request: HttpRequest, name: str) -> list[str]:
    if not (names := [name] if name else request.POST.getlist("worker")):
        raise ChangeRefusedError(_("No worker was selected."))
    return names


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    more = ngettext("%(shown)s and %(n)s more", "%(shown)s and %(n)s more", len(names) - 5)
    return more % {"shown": shown, "n": len(names) - 5} if len(names) > 5 else shown
