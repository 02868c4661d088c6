"""The changes that a person can make to a job. Each moves or removes the job in one atomic step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any

from redis import Redis
from rq.job import Job, JobStatus

from jobs import runtime
from jobs.broker import keys
from jobs.broker.connections import Script, Word, address, get_connection, reaching, run_script, same_server
from jobs.broker.times import as_text, iso
from jobs.errors import ChangeRefusedError
from jobs.outbox import rows
from jobs.record.history import KEPT_FOR, line
from jobs.record.prerequisites import link
from jobs.retries import CENTURY
from jobs.steps.record import State

SLICE = 25  # jobs that one step changes, or deletes when a queue is cleared: some milliseconds of the server's time

_CHANGE, _CLEAR, _REWIND = Script("change.lua"), Script("clear.lua"), Script("rewind.lua")

_ENDED = (JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED)
_AHEAD = (JobStatus.QUEUED, JobStatus.SCHEDULED, JobStatus.DEFERRED)


@dataclass(frozen=True, slots=True)
class _Change:
    """A change, as an argument of `change.lua`."""

    what: str
    possible: tuple[JobStatus, ...]
    verb: str
    event: str = ""
    reason: str = ""
    at_front: bool = False
    queue: str = ""
    due: float | None = None
    is_forced: bool = False  # goes past the limits of the job
    flow: str = ""  # the flow that says that its step runs again


_RETRY = _Change("queue", (*_ENDED, JobStatus.SCHEDULED), "retried", event="revived")
_RUN_NOW = _Change("queue", (JobStatus.SCHEDULED, JobStatus.DEFERRED), "run now", event="revived")
_CANCEL = _Change("cancel", (*_AHEAD, JobStatus.STARTED), "cancelled", event="cancelled", reason="cancelled")
_DELETE = _Change("delete", (*_ENDED, *_AHEAD, JobStatus.STARTED, JobStatus.FINISHED), "deleted", reason="deleted")
_AGAIN = _Change("again", (*_ENDED, JobStatus.FINISHED), "run again", event="revived")
_MOVE = _Change("queue", (JobStatus.QUEUED,), "moved")
_REWOUND = _Change("rewind", (*_ENDED, *_AHEAD), "begun anew")
_TRACES = {"cancel": "cancelled", "delete": "deleted"}  # of changes that an unsent job takes
_NAMED = {"retry": _RETRY, "run_now": _RUN_NOW, "cancel": _CANCEL, "delete": _DELETE, "move": _MOVE}


def retry(job: Job, *, at_front: bool = False, queue: str = "") -> None:
    """
    Run a dead, discarded or cancelled job again, or a retrying job immediately, with a fresh retry budget. `queue`: in
    that queue, of the same server, instead of its own.

    Raises ChangeRefusedError in any other state, and if another job holds the lock of its unique command.
    """
    _change(job, replace(_RETRY, at_front=at_front, queue=queue))


def run_again(job: Job, flow: str) -> bool:
    """
    Run an ended step again, a finished one too, if the flow of that id says so: the step waits for what it lacks by the
    flow. Once: returns False afterwards, and in any other state.
    """
    return _changed([job], replace(_AGAIN, flow=flow)) == [None]


def run_now(job: Job, *, force: bool = False) -> None:
    """
    Run a scheduled job before it is due, or a waiting job without its prerequisites. Its deadline is removed. With
    `force`, it goes past its command's limits, too, and counts towards them.

    Raises ChangeRefusedError in any other state, and for a limited job without `force`.
    """
    _change(job, replace(_RUN_NOW, is_forced=force))


def cancel(job: Job, reason: str = "cancelled") -> None:
    """
    Cancel a job: it does not run, and is not retried. Its record is kept for a day; an unsent job has none.

    A running job is interrupted in its thread; a late result is refused. Raises ChangeRefusedError if it has ended.
    """
    _change(job, replace(_CANCEL, reason=reason))


def move(job: Job, queue: str) -> None:
    """
    Move a queued or limited job to the tail of another queue, of the same server. It keeps its retry budget and
    deadline.

    Raises ChangeRefusedError in any other state, and for a queue of another server.
    """
    _change(job, replace(_MOVE, queue=queue))


def reschedule(job: Job, at: datetime) -> None:
    """
    Change the time at which a scheduled or retrying job runs. Its command's `expires_in` counts from the new time.

    Raises ValueError for a naive datetime or one more than a century ahead, ChangeRefusedError in any other state.
    """
    if at.tzinfo is None:
        raise ValueError(f"at={at!r} has no time zone. Give an aware datetime.")
    if (due := at.timestamp()) > runtime.now() + CENTURY:
        raise ValueError(f"at={at!r} is impossible. Give a time that is a century ahead at most.")
    _change(job, _Change("due", (JobStatus.SCHEDULED,), "rescheduled", "rescheduled", reason=iso(due), due=due))


def profile(job: Job) -> None:
    """
    Profile the next attempt at a job, and those after it.

    Raises ChangeRefusedError if the job is running or has finished.
    """
    _change(job, _Change("profile", (*_AHEAD, *_ENDED), "profiled"))


def begin_anew(job: Job, step: str = "") -> None:
    """
    Have a job do its steps anew, from that one on, or all of them. A dead, discarded, cancelled or retrying job is
    retried.

    Raises ChangeRefusedError while the job runs, and if it has finished; StepError for a step that it has not begun.
    """
    reason = f"from the step {step!r}" if step else "from the first step"
    statuses = f",{','.join(status.value for status in (*_ENDED, *_AHEAD))},"
    outcome = "changed"
    while outcome == "changed":  # by an attempt that has begun and ended meanwhile
        with reaching(job.connection):
            text: Any = job.connection.hget(job.key, "steps")
            known = as_text(text or b"")
            anew = State.load(known).without(step).dump()
            words = [keys.RQ, job.id, statuses, known, anew, line("rewound", runtime.now(), reason=reason)]
            outcome, status = map(as_text, run_script(job.connection, _REWIND, [], words))
    if refused := _refusal(job.id, _REWOUND, outcome, status):
        raise refused
    state: Any = job.connection.hget(job.key, "state")
    if status in _ENDED or (status == JobStatus.SCHEDULED and as_text(state or b"") == "retrying"):
        retry(job)


def delete(job: Job) -> None:
    """
    Delete a job in any state. Its dependents stay blocked; for a day its id is refused as a prerequisite.

    Raises ChangeRefusedError if it has no record.
    """
    _change(job, _DELETE)


def clear(queue: str, until: datetime) -> Iterator[int]:
    """
    Delete the jobs of a queue that were enqueued by that time (aware), SLICE at a time. Yields the number of deleted
    jobs after each step.

    Dependents stay blocked, as after `delete`. Raises KeyError for an unknown queue.
    """
    client = get_connection(queue)
    words: list[Word] = [keys.RQ, SLICE, iso(until.timestamp()), KEPT_FOR]
    gone = 1
    while gone:
        with reaching(client):
            deleted, gone = run_script(client, _CLEAR, [keys.queue(queue)], [*words, iso(runtime.now())])
        yield deleted


def change_all(
    name: str, jobs: Sequence[Job], queue: str = "", *, force: bool = False
) -> list[ChangeRefusedError | None]:
    """
    `retry`, `run_now`, `cancel`, `delete` or `move` (to `queue`) many jobs, SLICE of them in a step. Each job is
    changed independently, but each queue is scanned once per slice. `force`: as that of `run_now`.

    Returns for each job None if it was changed, or the refusal. Raises KeyError for any other name.
    """
    return _changed(jobs, replace(_NAMED[name], queue=queue, is_forced=force))


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
        left = dict.fromkeys(ids, "")  # ids, and how far the search for a claim came
        while left:
            searched = next(iter(left.values()))
            some = list(islice((job_id for job_id, how_far in left.items() if how_far == searched), SLICE))
            for job_id in some:
                del left[job_id]
            later = {}
            for job_id, outcome, detail in _made(client, some, change, searched):
                if outcome == "linking":
                    with reaching(client):
                        link(client, job_id)
                if outcome == "missing" and change.what in _TRACES and rows.is_on():
                    outcome = _withdraw(client, job_id, _TRACES[change.what])
                if outcome in ("later", "linking"):
                    later[job_id] = detail
                else:
                    refused[client, job_id] = _refusal(job_id, change, outcome, detail)
            left = later | left
    return [refused[job.connection, job.id] for job in jobs]


def _elsewhere(job_id: str, change: _Change, client: Redis, there: Redis) -> ChangeRefusedError:
    return ChangeRefusedError(
        f"Job {job_id} cannot be {change.verb} to {change.queue}: that queue is on another Redis "
        f"({address(there)}) than the job ({address(client)}). Enqueue it there anew, "
        "and cancel or delete this one."
    )


def _withdraw(client: Redis, job_id: str, trace: str) -> str:
    """
    Take a durable job that Redis does not have out of the outbox. A process may be sending the job: it finds the trace
    and writes none, or it was here first. As any change of a job, this holds at once: if a transaction that is open is
    rolled back, the row is back, and is sent to no effect. Returns the outcome of the change.
    """
    row = rows.find(job_id)
    if row is None or row.sent_at is not None:
        return "missing"
    with reaching(client):
        is_ours = client.set(keys.gone(job_id), trace, ex=KEPT_FOR, nx=True)
        was_here = client.exists(keys.job(job_id)) or client.exists(keys.sent(job_id))
        if was_here and is_ours:
            client.delete(keys.gone(job_id))  # who waits for the job would take it for cancelled
        if was_here:
            return "later" if client.exists(keys.job(job_id)) else "missing"  # it has run, and is forgotten
    rows.remove([job_id])
    return "done"


def _refusal(job_id: str, change: _Change, outcome: str, detail: str) -> ChangeRefusedError | None:
    match outcome:
        case "done":
            return None
        case "missing":
            why = "it has no record. It finished, or was deleted."
        case "status":
            why = f"it is {detail}."
        case "held":
            why = f"its command is unique, and job {detail} is in its place."
        case "limited":
            why = f"it waits for the limit {detail}. To go past it: run_now(job, force=True), jobs run-now --force."
        case _:
            why = f"the server said {detail!r}."
    return ChangeRefusedError(f"Job {job_id} cannot be {change.verb}: {why}")


def _made(client: Redis, ids: Sequence[str], change: _Change, searched: str) -> Iterator[tuple[str, str, str]]:
    """
    Make the change. `searched`: the detail of these jobs' last outcome, if that was `later`. Returns for each job its
    id, the outcome, and a detail.
    """
    first, *others = ids
    statuses = f",{','.join(status.value for status in change.possible)},"
    note = line(change.event, runtime.now(), reason=change.reason) if change.event else ""
    words: list[Word] = [
        *(keys.RQ, first, change.what, statuses, KEPT_FOR, note, change.flow or change.reason),
        *("LPUSH" if change.at_front else "RPUSH", change.queue, "" if change.due is None else repr(change.due)),
        *(iso(runtime.now()), searched, int(change.is_forced)),
    ]
    with reaching(client):
        answers = [as_text(each) for each in run_script(client, _CHANGE, [], [*words, *others])]
    return zip(ids, answers[::2], answers[1::2], strict=True)
