"""Every change a person may make to a job. Each takes it from where it is and puts it elsewhere in one atomic step."""

from collections.abc import Iterator
from datetime import datetime

from redis import Redis
from rq.defaults import RQ_KEY_PREFIX
from rq.job import Job, JobStatus
from rq.utils import as_text

from jobs import seams
from jobs.connections import Script, Word, address, get_connection, reaching, run_script, same_server
from jobs.errors import ChangeRefusedError
from jobs.history import KEPT_FOR, iso, line

SLICE = 500  # jobs that are deleted at once when a queue is cleared: some 5 ms of the server's time

_CHANGE, _CLEAR = Script("lua/shared.lua", "lua/change.lua"), Script("lua/shared.lua", "lua/clear.lua")

_ENDED = (JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED)
_AHEAD = (JobStatus.QUEUED, JobStatus.SCHEDULED, JobStatus.DEFERRED)


def retry(job: Job, *, at_front: bool = False, queue: str = "") -> None:
    """
    Run a dead, discarded or cancelled job again, or a retrying one at once; with a fresh budget of retries. `queue`:
    in that one, of the same server, instead of its own.

    Raises ChangeRefusedError in any other state, and when another job holds the lock of a unique one.
    """
    possible = (*_ENDED, JobStatus.SCHEDULED)
    _change(job, "queue", possible, event="revived", verb="retried", at_front=at_front, queue=queue)


def run_now(job: Job) -> None:
    """
    Run a scheduled job before its time, or a waiting one without its prerequisites; without a deadline from then on.

    Raises ChangeRefusedError in any other state.
    """
    _change(job, "queue", (JobStatus.SCHEDULED, JobStatus.DEFERRED), event="revived", verb="run now")


def cancel(job: Job, reason: str = "cancelled") -> None:
    """
    See that a job is not run: neither now, nor to its end if it is running, nor again. Kept for a day.

    A running one is interrupted in its thread; its late result is refused. Raises ChangeRefusedError when it has ended.
    """
    _change(job, "cancel", (*_AHEAD, JobStatus.STARTED), event="cancelled", reason=reason, verb="cancelled")


def move(job: Job, queue: str) -> None:
    """
    Move a queued job to the tail of another queue, of the same server. Its retry budget and deadline stay.

    Raises ChangeRefusedError in any other state, and for a queue of another server.
    """
    _change(job, "queue", (JobStatus.QUEUED,), verb="moved", queue=queue)


def reschedule(job: Job, at: datetime) -> None:
    """
    Change the time at which a scheduled or retrying job runs. What its command's `expires_in` allows counts from there.

    Raises ValueError for a time without a zone, ChangeRefusedError in any other state.
    """
    if at.tzinfo is None:
        raise ValueError(f"at={at!r} has no time zone. Give an aware datetime.")
    due = at.timestamp()
    _change(job, "due", (JobStatus.SCHEDULED,), event="rescheduled", reason=iso(due), verb="rescheduled", due=due)


def profile(job: Job) -> None:
    """
    Have the next attempt at a job profiled, and those after it.

    Raises ChangeRefusedError when it runs or has finished.
    """
    _change(job, "profile", (*_AHEAD, *_ENDED), verb="profiled")


def delete(job: Job) -> None:
    """
    Remove a job in whatever state. What waits for it stays blocked; for a day its id is refused as a prerequisite.

    Raises ChangeRefusedError when it has no record.
    """
    _change(job, "delete", (*_ENDED, *_AHEAD, JobStatus.STARTED, JobStatus.FINISHED), reason="deleted", verb="deleted")


def clear(queue: str, until: datetime) -> Iterator[int]:
    """
    Delete the jobs of a queue that were enqueued by that time (aware), SLICE at a time: how many, after each step.

    What waits for them stays blocked, as after `delete`. Raises KeyError for a queue that there is not.
    """
    client = get_connection(queue)
    words: list[Word] = [f"{RQ_KEY_PREFIX}:", SLICE, iso(until.timestamp()), KEPT_FOR]
    gone = 1
    while gone:
        with reaching(client):
            deleted, gone = run_script(client, _CLEAR, [f"{RQ_KEY_PREFIX}:queue:{queue}"], words)
        yield deleted


def _change(
    job: Job,
    what: str,
    possible: tuple[JobStatus, ...],
    *,
    verb: str,
    event: str = "",
    reason: str = "",
    at_front: bool = False,
    queue: str = "",
    due: float | None = None,
) -> None:
    now = seams.now()
    client: Redis = job.connection
    if queue and not same_server(there := get_connection(queue), client):
        raise ChangeRefusedError(
            f"Job {job.id} cannot be {verb} to {queue}: that queue is on another Redis ({address(there)}) than the job "
            f"({address(client)}). Enqueue it there anew, and cancel or delete this one."
        )
    statuses = f",{','.join(status.value for status in possible)},"
    note = line(event, now, reason=reason) if event else ""
    with reaching(client):
        happened, further = run_script(
            client,
            _CHANGE,
            [],
            [
                *(f"{RQ_KEY_PREFIX}:", job.id, what, iso(now), repr(now), statuses, KEPT_FOR, note, reason),
                *("LPUSH" if at_front else "RPUSH", queue, "" if due is None else repr(due)),
            ],
        )
    match as_text(happened), as_text(further):
        case "missing", _:
            raise ChangeRefusedError(f"Job {job.id} cannot be {verb}: it has no record. It finished, or was deleted.")
        case "status", status:
            raise ChangeRefusedError(f"Job {job.id} cannot be {verb}: it is {status}.")
        case "held", holder:
            raise ChangeRefusedError(
                f"Job {job.id} cannot be {verb}: its command is unique, and job {holder} is in its place."
            )
