"""What the pages' buttons do: each a change of `control`, `queues`, `scheduler` or `workers`, told in a sentence."""

from collections.abc import Callable
from typing import Any

from django.core.exceptions import ValidationError
from django.forms import DateTimeField
from django.http import HttpRequest

from jobs import control, queues, registry, scheduler, workers
from jobs.bulk import CHANGES, DONE, apply
from jobs.dashboard.lists import query_of
from jobs.errors import ChangeRefusedError
from jobs.inspection import find
from jobs.job import MandateJob

MOST_AT_ONCE = 500  # jobs that a request changes itself; more are changed by a job

# The permission that each change of a job needs.
NEEDS = dict.fromkeys(("retry", "run_now", "move", "reschedule", "copy", "profile"), "retry")
NEEDS |= {"cancel": "cancel", "delete": "delete"}


def change_job(name: str) -> Callable[..., str]:
    """The action of that name on one job."""

    def change(request: HttpRequest, job_id: str) -> str:
        CHANGES[name](_known(job_id))
        return f"Job {job_id} was {DONE[name]}."

    return change


def move_job(request: HttpRequest, job_id: str) -> str:
    """Move a queued job to another queue of its server."""
    queue = queues.check(request.POST.get("queue", ""))
    control.move(_known(job_id), queue)
    return f"Job {job_id} was moved to {queue}."


def reschedule_job(request: HttpRequest, job_id: str) -> str:
    """Change when a scheduled job runs: `at`, in the reader's time zone."""
    try:
        at = DateTimeField().clean(request.POST.get("at", ""))
    except ValidationError as error:
        raise ChangeRefusedError(f"{request.POST.get('at', '')!r} is no time: {' '.join(error.messages)}") from None
    control.reschedule(_known(job_id), at)
    return f"Job {job_id} was rescheduled."


def profile_job(request: HttpRequest, job_id: str) -> str:
    """Have the next attempt at a job profiled."""
    control.profile(_known(job_id))
    return f"The next attempt at job {job_id} will be profiled."


def copy_job(request: HttpRequest, job_id: str) -> str:
    """Enqueue another job like that one."""
    return f"A copy of job {job_id} was enqueued, as job {queues.copy(_known(job_id)).id}."


def _known(job_id: str) -> MandateJob:
    job = find(job_id)
    if job is None:
        raise ChangeRefusedError(f"There is no record of job {job_id} any more.")
    return job


def change_many(name: str) -> Callable[..., str]:
    """The action of that name on the jobs selected in a list, or on all that its filters mean."""

    def change(request: HttpRequest, state: str) -> str:
        if request.POST.get("all"):
            query = query_of(request.POST, state)
            count = query.count()
            if count.value > MOST_AT_ONCE or count.more:
                change_many: Any = registry.get("jobs.ChangeMany")
                job = change_many.defer(name, state, _filters(request))
                return f"{count} jobs are being {DONE[name]} by job {job.id}."
            return apply(name, query.all())
        return apply(name, filter(None, map(find, request.POST.getlist("job"))))

    return change


def _filters(request: HttpRequest) -> dict[str, str]:
    names = ("queue", "command", "error", "text", "since", "until", "order")
    return {name: request.POST[name] for name in names if request.POST.get(name)}


def pause_queue(request: HttpRequest, queue: str) -> str:
    queues.pause(queue)
    return f"The queue {queue} is paused."


def resume_queue(request: HttpRequest, queue: str) -> str:
    queues.resume(queue)
    return f"The queue {queue} goes on."


def pause_entry(request: HttpRequest, name: str) -> str:
    scheduler.pause(name)
    return f"The recurring entry {name} is paused."


def resume_entry(request: HttpRequest, name: str) -> str:
    scheduler.resume(name)
    return f"The recurring entry {name} goes on."


def run_entry(request: HttpRequest, name: str) -> str:
    return f"The recurring entry {name} runs now, as job {scheduler.run_now(name)}."


def tell_worker(command: str) -> Callable[..., str]:
    """The action that tells a worker something."""

    def change(request: HttpRequest, name: str) -> str:
        workers.tell(name, command)
        return f"The worker {name} was told: {command}."

    return change
