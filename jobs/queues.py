"""
Writes the jobs that `defer` makes: when the surrounding transactions commit, in one atomic step per queue. Runs of
recurring entries are copies of the entry's record, made by `occur.lua` and `recurring.runs.push_run`.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import orjson
from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer

from jobs import conf, runtime
from jobs.broker import keys
from jobs.broker.connections import Script, Word, by_server, get_connection, reaching, run_script
from jobs.broker.times import as_text, iso
from jobs.errors import ChangeRefusedError, PrerequisiteError, UnknownQueueError
from jobs.job import MandateJob
from jobs.record import payload
from jobs.record.prerequisites import LINKED_AT_ONCE, NONE, Prerequisites, announce, link_all
from jobs.runtime import Transactions
from jobs.safe_logging import safe_logger

logger = safe_logger("jobs")

SLICE = 1_000  # jobs a round trip: large enough that the trip does not count, small enough not to block Redis
SLICE_BYTES = 262_144  # of payloads a round trip, unless one job alone has more: a slow link must not time out
SLICE_LINKS = LINKED_AT_ONCE  # prerequisites a round trip; a job with more is linked to them once it is written
LINES = 10  # jobs of a slice that are logged one by one; more share a line

_PAUSED = keys.PAUSED
_PUSH = Script("push.lua")


class Lock(NamedTuple):
    """The lock of a unique command: a key in Redis, held for so many seconds or until its job has ended."""

    key: str
    seconds: float


class NewJob(NamedTuple):
    """
    A job about to be written. `due` is None for now, else seconds since the epoch: an absolute time, or the end of a
    wait by this process's clock. The server counts what is left of a wait, and `expires_in`, by its own clock.
    """

    id: str
    queue: str
    payload: bytes
    due: float | None = None
    fields: tuple[Word, ...] = ()  # further fields of its record: names and values, alternating
    prerequisites: Prerequisites = NONE
    lock: Lock | None = None
    at_front: bool = False  # goes to the head of its queue when it becomes ready
    is_wait: bool = False  # whether `due` is the end of a wait
    expires_in: float | None = None  # seconds from when it is due, after which it may not begin


def new_id() -> str:
    """Return a random UUID (version 4, RFC 9562) as text. The standard library takes four times as long."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def check(queue: str) -> str:
    """Return the name of a queue. Raises UnknownQueueError, which lists the queues, for any other name."""
    names = conf.queues()
    if queue not in names:
        raise UnknownQueueError(f"Unknown queue: {queue!r}. The queues are: {', '.join(names)}.")
    return queue


def of_class(name: str) -> str:
    """
    Return the queue that a class option `queue`, or a task's `queue_name`, names: `default` stands for the first queue
    of a project that has no `default`. Raises UnknownQueueError as `check`.
    """
    names = conf.queues()
    if name not in names and name == conf.DEFAULT_QUEUE:
        name = next(iter(names), name)
    return name if name in names else check(name)


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


def push(jobs: Sequence[NewJob]) -> list[MandateJob]:
    """
    Write jobs once every open transaction, on any database, has committed; immediately if none is open.

    One rollback, even of a savepoint, drops all of them. Returns a handle for each job; the write updates the handles:
    the job is written, or it is a duplicate.

    Raises RedisUnavailableError, here or where the transaction ends, if Redis does not answer.
    """
    clients = {queue: get_connection(queue) for queue in {job.queue for job in jobs}}
    handles = [
        MandateJob.handle(job.id, queue=job.queue, payload=job.payload, connection=clients[job.queue]) for job in jobs
    ]
    transactions = Transactions.open_now()
    if transactions.aliases:
        for handle in handles:
            handle.transactions = transactions
    on_commit(lambda: _write(jobs, handles))
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


def on_commit(write: Callable[[], None]) -> None:
    """Call `write` once every open transaction has committed, after earlier ones; immediately if none is open."""
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
    for queue, pairs in groupby(zip(jobs, handles, strict=True), key=lambda pair: pair[0].queue):
        client = get_connection(queue)
        with reaching(client):
            for of_slice in _slices(pairs):
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


def _write_slice(client: Redis, queue: str, pairs: Sequence[_Pair]) -> None:
    now = runtime.now()
    arguments: list[Word] = [keys.RQ, queue, iso(now)]
    many = {job.id: _announced(client, job) for job, _ in pairs if len(job.prerequisites.jobs) > SLICE_LINKS}
    for job, _ in pairs:
        data = payload.stored(job.payload)
        plain = not (job.lock or job.prerequisites.jobs or job.at_front or job.expires_in is not None)
        links, fields = ("", job.fields) if plain else _links(job, many)
        arguments += (job.id, "" if job.due is None else _due(job, now), data, links, len(fields) // 2)
        arguments += fields
    lists = (keys.queue(queue), keys.registry("scheduled", queue), keys.registry("deferred", queue))
    duplicates = dict(run_script(client, _PUSH, (keys.QUEUES, *lists), arguments, is_repeatable=True))
    refused = []
    for position, (job, handle) in enumerate(pairs):
        if position not in duplicates:
            handle.is_written, handle.written_at = True, now
        elif (holder := as_text(duplicates[position])) in job.prerequisites.ids():
            refused.append(holder)
        else:
            handle.become(holder)
    link_all(client, (job.id for at, (job, _) in enumerate(pairs) if many.get(job.id) and at not in duplicates))
    if refused:
        raise PrerequisiteError(f"Job {refused[0]} cannot be a prerequisite of its own duplicate: it is unique.")
    if logger.isEnabledFor(logging.INFO):
        _log(pairs)


def _due(job: NewJob, now: float) -> str:
    """Return when a job is due, as `push.lua` reads it. The testing kit has one clock."""
    assert job.due is not None  # noqa: S101
    is_left = job.is_wait and runtime.stand_in is None
    return f"+{max(0.0, job.due - now)!r}" if is_left else repr(job.due)


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
    if runtime.stand_in is not None:
        return 0
    ids = set(job.prerequisites.ids()) - set(job.prerequisites.unwritten())
    announce(client, job.id, list(ids))
    return len(ids)


def _links(job: NewJob, many: Mapping[str, int]) -> tuple[bytes, tuple[Word, ...]]:
    """Return the links that `push.lua` reads (prerequisites, place, lock), and the fields of the record."""
    links: dict[str, object] = {}
    fields = job.fields
    if ids := job.prerequisites.ids():
        if job.id in ids:
            raise PrerequisiteError(f"Job {job.id} cannot be a prerequisite of itself.")
        sure = job.prerequisites.unwritten()
        links |= {"waits": ids, "sure": sure, "any": job.prerequisites.any_end}
        if many.get(job.id):
            links |= {"waits": sure, "many": many[job.id]}
        fields += ("prereqs", orjson.dumps(ids), "more", 1)
    if job.at_front:
        links["front"] = True
        fields += ("front", 1)  # for the promotion, if it is not ready yet
    if job.expires_in is not None:
        links["expires_in"] = job.expires_in
    if job.lock:
        milliseconds = max(1, int(job.lock.seconds * 1_000))
        links |= {"unique": job.lock.key, "unique_ms": milliseconds}
        fields += ("unique", job.lock.key, "unique_ms", milliseconds)
    return orjson.dumps(links), fields
