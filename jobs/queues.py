"""
Writes the jobs that `defer` makes: when the surrounding transactions commit, in one atomic step per queue. Runs of
recurring entries are copies of the entry's record, made by `occur.lua` and `recurring.runs.push_run`.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer

from jobs import conf, runtime
from jobs.broker import keys
from jobs.broker.ahead import Call, run_ahead
from jobs.broker.connections import Script, Word, by_server, get_connection, reaching, run_script
from jobs.broker.times import as_text, iso
from jobs.errors import ChangeRefusedError, PrerequisiteError, UnknownQueueError
from jobs.job import MandateJob
from jobs.record import payload
from jobs.record.new_jobs import Lock, NewJob, words
from jobs.record.prerequisites import LINKED_AT_ONCE, announce, link_all
from jobs.runtime import Transactions
from jobs.safe_logging import safe_logger

logger = safe_logger("jobs")

SLICE = 1_000  # jobs a round trip: large enough that the trip does not count, small enough not to block Redis
SLICE_BYTES = 262_144  # of payloads a round trip, unless one job alone has more: a slow link must not time out
SLICE_LINKS = LINKED_AT_ONCE  # prerequisites a round trip; a job with more is linked to them once it is written
LINES = 10  # jobs of a slice that are logged one by one; more share a line

_PAUSED = keys.PAUSED
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}  # of a UUID
_PUSH = Script("push.lua")


def new_id() -> str:
    """Return a random UUID (version 4, RFC 9562) as text. The standard library takes four times as long."""
    return new_ids(1)[0]


def new_ids(count: int) -> list[str]:
    """Return so many ids of jobs: `new_id` for many at once."""
    digits = os.urandom(16 * count).hex()
    return [
        f"{digits[at : at + 8]}-{digits[at + 8 : at + 12]}-4{digits[at + 13 : at + 16]}-"
        f"{_VARIANT[digits[at + 16]]}{digits[at + 17 : at + 20]}-{digits[at + 20 : at + 32]}"
        for at in range(0, 32 * count, 32)
    ]


def check(queue: str) -> str:
    """Return the name of a queue. Raises UnknownQueueError, which lists the queues, for any other name."""
    if not conf.is_queue(queue):
        raise UnknownQueueError(f"Unknown queue: {queue!r}. The queues are: {', '.join(conf.queues())}.")
    return queue


def of_class(name: str) -> str:
    """
    Return the queue that a class option `queue`, or a task's `queue_name`, names: `default` stands for the first queue
    of a project that has no `default`. Raises UnknownQueueError as `check`.
    """
    if name == conf.DEFAULT_QUEUE and not conf.is_queue(name):
        name = next(iter(conf.queues()), name)
    return check(name)


def get_queue(name: str) -> Queue:
    """Return RQ's Queue, for reading: its length, its job ids, its registries."""
    return Queue(
        check(name),
        connection=get_connection(name),
        job_class=MandateJob,
        serializer=JSONSerializer,
    )


def pause(name: str) -> None:
    """Stop taking jobs from this queue; every worker sees it within a second. Running jobs continue."""
    get_connection(check(name)).sadd(_PAUSED, name)


def resume(name: str) -> None:
    """Start taking jobs from this queue again."""
    get_connection(check(name)).srem(_PAUSED, name)


def paused() -> set[str]:
    """Return the names of the paused queues."""
    clients = {id(client): client for client in map(get_connection, conf.queues())}
    return {as_text(name) for client in clients.values() for name in client.smembers(_PAUSED)}


def lengths() -> dict[str, int]:
    """Return the number of jobs in each queue, in priority order, in one round trip per server."""
    counts: dict[str, int] = {}
    for client, names in by_server(conf.queues()).items():
        with reaching(client), client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.llen(keys.queue(name))
            counts.update(zip(names, pipeline.execute(), strict=True))
    return {name: counts[name] for name in conf.queues()}


_Pair = tuple[NewJob, MandateJob]


def _queue_of(pair: _Pair) -> str:
    return pair[0].queue


def push(jobs: Sequence[NewJob]) -> list[MandateJob]:
    """
    Write jobs once every open transaction, on any database, has committed; immediately if none is open.

    One rollback, even of a savepoint, drops all of them. Returns a handle for each job; the write updates the handles:
    the job is written, or it is a duplicate.

    Raises RedisUnavailableError, here or where the transaction ends, if Redis does not answer.
    """
    clients = {queue: get_connection(queue) for queue in {job.queue for job in jobs}}
    handles = [MandateJob.handle(job.id, job.queue, job.payload, clients[job.queue]) for job in jobs]
    opened = runtime.open_transactions()
    if opened:
        transactions = Transactions.of(opened)
        for handle in handles:
            handle.transactions = transactions
    on_commit(lambda: _write(jobs, handles), opened)
    return handles


def copy(job: MandateJob) -> MandateJob:
    """
    Enqueue a copy of `job`, which may be in any state, to run now, in the same queue.

    Prerequisites and the deadline are not copied; the lock of a unique command is. Returns the handle of the copy.
    Raises ChangeRefusedError for a plain RQ job or a job without a record; UnknownQueueError if its queue no longer
    exists.
    """
    names = ("data", "timeout", "result_ttl", "context", "unique", "unique_ms")
    values: Any = job.connection.hmget(job.key, *names)
    data, *kept, lock, milliseconds = values
    if not payload.is_command(data or b""):
        raise ChangeRefusedError(f"Job {job.id} cannot be copied: it has no record, or it is a plain RQ job.")
    fields: tuple[Word, ...] = ()
    for name, value in zip(names[1:], kept, strict=False):
        if value:
            fields += (name, value, "more", 1) if name == "context" else (name, value)
    unique = Lock(as_text(lock), int(milliseconds) / 1_000) if lock else None
    (made,) = push([NewJob(new_id(), check(job.origin), payload.inflated(data), fields=fields, lock=unique)])
    return made


def on_commit(write: Callable[[], None], opened: Sequence[Any] | None = None) -> None:
    """
    Call `write` once every open transaction has committed, after earlier ones; immediately if none is open. `opened`:
    what `runtime.open_transactions` has just returned.
    """
    if opened is None:
        opened = runtime.open_transactions()
    if not opened:
        write()
        return
    # A transaction that rolls back never calls back, so its alias stays in `awaited` and nothing is written.
    awaited = {connection.alias for connection in opened}

    def committed(alias: str) -> None:
        awaited.discard(alias)
        if not awaited:
            write()

    for connection in opened:
        runtime.on_commit(connection, lambda alias=connection.alias: committed(alias))  # type: ignore[misc]


def _write(jobs: Sequence[NewJob], handles: Sequence[MandateJob]) -> None:
    for queue, pairs in groupby(zip(jobs, handles, strict=True), key=_queue_of):
        client = get_connection(queue)
        with reaching(client):
            slices = list(_slices(pairs))
            for alone, of_kind in groupby(slices, key=_is_alone) if len(slices) > 1 else ((True, slices),):
                if not alone:
                    _write_ahead(client, queue, list(of_kind))
                    continue
                for of_slice in of_kind:
                    _write_slice(client, queue, of_slice)


def _slices(pairs: Iterable[_Pair]) -> Iterator[list[_Pair]]:
    """Yield the jobs in slices that neither the server nor the link is busy with for long."""
    of_slice: list[_Pair] = []
    size = links = 0
    for pair in pairs:
        job = pair[0]
        size += len(job.payload)
        links += len(job.prerequisites.jobs)
        if of_slice and (len(of_slice) == SLICE or size > SLICE_BYTES or links > SLICE_LINKS):
            yield of_slice
            of_slice, size, links = [], len(job.payload), len(job.prerequisites.jobs)
        of_slice.append(pair)
    if of_slice:
        yield of_slice


def _is_alone(pairs: Sequence[_Pair]) -> bool:
    """Whether a slice must be answered before the next is sent: a job may be refused, or has very many links."""
    return any(job.prerequisites.jobs and (job.lock or len(job.prerequisites.jobs) > SLICE_LINKS) for job, _ in pairs)


def _write_slice(client: Redis, queue: str, pairs: Sequence[_Pair]) -> None:
    now = runtime.now()
    many = {job.id: _announced(client, job) for job, _ in pairs if len(job.prerequisites.jobs) > SLICE_LINKS}
    arguments = words(queue, [job for job, _ in pairs], now, many)
    refused = _settle(pairs, now, run_script(client, _PUSH, _keys(queue), arguments, is_repeatable=True))
    if many:
        link_all(client, (job.id for job, handle in pairs if many.get(job.id) and handle.id == job.id))
    if refused:
        raise PrerequisiteError(f"Job {refused[0]} cannot be a prerequisite of its own duplicate: it is unique.")
    if logger.isEnabledFor(logging.INFO):
        _log(pairs)


def _write_ahead(client: Redis, queue: str, slices: Sequence[Sequence[_Pair]]) -> None:
    """Write slices none of which is refused, each while the server still writes the one before."""
    times: list[float] = []
    answers: list[Any] = []

    def calls() -> Iterator[Call]:
        for pairs in slices:
            times.append(runtime.now())
            yield _keys(queue), words(queue, [job for job, _ in pairs], times[-1], {})

    try:
        run_ahead(client, _PUSH, calls(), answers)
    finally:
        errors = [answer for answer in answers if isinstance(answer, Exception)]
        for pairs, now, answer in zip(slices, times, answers, strict=False):
            if not isinstance(answer, Exception):
                _settle(pairs, now, answer)
                if logger.isEnabledFor(logging.INFO):
                    _log(pairs)
    if errors:
        raise errors[0]


def _settle(pairs: Sequence[_Pair], now: float, answer: Sequence[tuple[int, bytes]]) -> list[str]:
    """Note in the handles which jobs are written. Returns the ids for which a job was refused, of its prerequisites."""
    duplicates = dict(answer)
    refused = []
    for position, (job, handle) in enumerate(pairs):
        if position not in duplicates:
            handle.is_written, handle.written_at = True, now
        elif (holder := as_text(duplicates[position])) in job.prerequisites.ids():
            refused.append(holder)
        else:
            handle.become(holder)
    return refused


def _keys(queue: str) -> tuple[str, ...]:
    return keys.QUEUES, keys.queue(queue), keys.registry("scheduled", queue), keys.registry("deferred", queue)


def _log(pairs: Sequence[_Pair]) -> None:
    """Log a line for each job, or one for all if there are over LINES, as in a slice of `defer_many`."""
    if len(pairs) > LINES:
        job, duplicates = pairs[0][0], sum(handle.duplicate for _, handle in pairs)
        besides = f", {duplicates} of them duplicates" if duplicates else ""
        names = ", ".join(sorted({str(handle.command_name) for _, handle in pairs}))
        logger.info(
            "enqueued to %s: %d jobs of %s%s", job.queue, len(pairs), names, besides, extra={"queue": job.queue}
        )
        return
    for job, handle in pairs:
        when = "" if job.due is None else f", due {iso(job.due)}"
        what = f"duplicate of job {handle.id}" if handle.duplicate else f"enqueued to {job.queue}{when}"
        fields = {"job_id": handle.id, "command": handle.command_name, "queue": job.queue}
        logger.info("%s: %s (job %s)", what, handle.description, job.id, extra=fields)


def _announced(client: Redis, job: NewJob) -> int:
    """Write the prerequisites of a job with many; returns their number. Those not written yet go with the job."""
    ids = set(job.prerequisites.ids()) - set(job.prerequisites.unwritten())
    announce(client, job.id, list(ids))
    return len(ids)
