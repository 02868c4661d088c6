"""Every change a person may make to a job. Each takes it from where it is and puts it elsewhere in one atomic step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from redis import Redis
from rq.job import Job, JobStatus
from rq.utils import as_text

from jobs import runtime
from jobs.broker import keys
from jobs.broker.connections import Script, Word, address, get_connection, reaching, run_script, same_server
from jobs.broker.times import iso
from jobs.errors import ChangeRefusedError
from jobs.record.history import KEPT_FOR, line

SLICE = 25  # jobs that one step changes, or deletes when a queue is cleared: some milliseconds of the server's time

_CHANGE, _CLEAR = Script("shared.lua", "change.lua"), Script("shared.lua", "clear.lua")

_ENDED = (JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED)
_AHEAD = (JobStatus.QUEUED, JobStatus.SCHEDULED, JobStatus.DEFERRED)


@dataclass(frozen=True, slots=True)
class _Change:
    """A change as `change.lua` takes it."""

    what: str
    possible: tuple[JobStatus, ...]
    verb: str
    event: str = ""
    reason: str = ""
    at_front: bool = False
    queue: str = ""
    due: float | None = None


_RETRY = _Change("queue", (*_ENDED, JobStatus.SCHEDULED), "retried", event="revived")
_RUN_NOW = _Change("queue", (JobStatus.SCHEDULED, JobStatus.DEFERRED), "run now", event="revived")
_CANCEL = _Change("cancel", (*_AHEAD, JobStatus.STARTED), "cancelled", event="cancelled", reason="cancelled")
_DELETE = _Change("delete", (*_ENDED, *_AHEAD, JobStatus.STARTED, JobStatus.FINISHED), "deleted", reason="deleted")
_MOVE = _Change("queue", (JobStatus.QUEUED,), "moved")
_NAMED = {"retry": _RETRY, "run_now": _RUN_NOW, "cancel": _CANCEL, "delete": _DELETE, "move": _MOVE}


def retry(job: Job, *, at_front: bool = False, queue: str = "") -> None:
    """
    Run a dead, discarded or cancelled job again, or a retrying one at once; with a fresh budget of retries. `queue`:
    in that one, of the same server, instead of its own.

    Raises ChangeRefusedError in any other state, and when another job holds the lock of a unique one.
    """
    _change(job, replace(_RETRY, at_front=at_front, queue=queue))


def run_now(job: Job) -> None:
    """
    Run a scheduled job before its time, or a waiting one without its prerequisites; without a deadline from then on.

    Raises ChangeRefusedError in any other state.
    """
    _change(job, _RUN_NOW)


def cancel(job: Job, reason: str = "cancelled") -> None:
    """
    See that a job is not run: neither now, nor to its end if it is running, nor again. Kept for a day.

    A running one is interrupted in its thread; its late result is refused. Raises ChangeRefusedError when it has ended.
    """
    _change(job, replace(_CANCEL, reason=reason))


def move(job: Job, queue: str) -> None:
    """
    Move a queued job to the tail of another queue, of the same server. Its retry budget and deadline stay.

    Raises ChangeRefusedError in any other state, and for a queue of another server.
    """
    _change(job, replace(_MOVE, queue=queue))


def reschedule(job: Job, at: datetime) -> None:
    """
    Change the time at which a scheduled or retrying job runs. What its command's `expires_in` allows counts from there.

    Raises ValueError for a time without a zone, ChangeRefusedError in any other state.
    """
    if at.tzinfo is None:
        raise ValueError(f"at={at!r} has no time zone. Give an aware datetime.")
    due = at.timestamp()
    _change(job, _Change("due", (JobStatus.SCHEDULED,), "rescheduled", "rescheduled", reason=iso(due), due=due))


def profile(job: Job) -> None:
    """
    Have the next attempt at a job profiled, and those after it.

    Raises ChangeRefusedError when it runs or has finished.
    """
    _change(job, _Change("profile", (*_AHEAD, *_ENDED), "profiled"))


def delete(job: Job) -> None:
    """
    Remove a job in whatever state. What waits for it stays blocked; for a day its id is refused as a prerequisite.

    Raises ChangeRefusedError when it has no record.
    """
    _change(job, _DELETE)


def clear(queue: str, until: datetime) -> Iterator[int]:
    """
    Delete the jobs of a queue that were enqueued by that time (aware), SLICE at a time: how many, after each step.

    What waits for them stays blocked, as after `delete`. Raises KeyError for a queue that there is not.
    """
    client = get_connection(queue)
    words: list[Word] = [keys.RQ, SLICE, iso(until.timestamp()), KEPT_FOR]
    gone = 1
    while gone:
        with reaching(client):
            deleted, gone = run_script(client, _CLEAR, [keys.queue(queue)], words)
        yield deleted


def change_all(name: str, jobs: Sequence[Job], queue: str = "") -> list[ChangeRefusedError | None]:
    """
    `retry`, `run_now`, `cancel`, `delete` or `move` (to `queue`) many jobs, SLICE of them in a step. Of each: None when
    it was changed, or why it was not. Each is changed by itself, but a queue is gone through once for all of a slice.

    Raises KeyError for any other name.
    """
    return _changed(jobs, replace(_NAMED[name], queue=queue))


def _change(job: Job, change: _Change) -> None:
    (refused,) = _changed([job], change)
    if refused:
        raise refused


def _changed(jobs: Sequence[Job], change: _Change) -> list[ChangeRefusedError | None]:
    refused: dict[tuple[Redis, str], ChangeRefusedError | None] = {}
    for client in dict.fromkeys(job.connection for job in jobs):
        ids = list(dict.fromkeys(job.id for job in jobs if job.connection is client))
        if change.queue and not same_server(there := get_connection(change.queue), client):
            refused |= {(client, job_id): _elsewhere(job_id, change, client, there) for job_id in ids}
            continue
        while ids:
            some, ids = ids[:SLICE], ids[SLICE:]
            later = []
            for job_id, happened, further in _made(client, some, change):
                if happened == "later":
                    later.append(job_id)
                else:
                    refused[client, job_id] = _refusal(job_id, change, happened, further)
            ids = later + ids
    return [refused[job.connection, job.id] for job in jobs]


def _elsewhere(job_id: str, change: _Change, client: Redis, there: Redis) -> ChangeRefusedError:
    return ChangeRefusedError(
        f"Job {job_id} cannot be {change.verb} to {change.queue}: that queue is on another Redis "
        f"({address(there)}) than the job ({address(client)}). Enqueue it there anew, "
        "and cancel or delete this one."
    )


def _refusal(job_id: str, change: _Change, happened: str, further: str) -> ChangeRefusedError | None:
    match happened:
        case "done":
            return None
        case "missing":
            why = "it has no record. It finished, or was deleted."
        case "status":
            why = f"it is {further}."
        case "held":
            why = f"its command is unique, and job {further} is in its place."
        case _:
            why = f"the server said {further!r}."
    return ChangeRefusedError(f"Job {job_id} cannot be {change.verb}: {why}")


def _made(client: Redis, ids: Sequence[str], change: _Change) -> Iterator[tuple[str, str, str]]:
    """Each job's id, what happened to it, and what there is to say of that."""
    now, first, *others = runtime.now(), *ids
    statuses = f",{','.join(status.value for status in change.possible)},"
    note = line(change.event, now, reason=change.reason) if change.event else ""
    words: list[Word] = [
        *(keys.RQ, first, change.what, iso(now), repr(now), statuses, KEPT_FOR, note, change.reason),
        *("LPUSH" if change.at_front else "RPUSH", change.queue, "" if change.due is None else repr(change.due)),
    ]
    with reaching(client):
        answers = [as_text(each) for each in run_script(client, _CHANGE, [], [*words, *others])]
    return zip(ids, answers[::2], answers[1::2], strict=True)
