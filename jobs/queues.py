"""
Writes the jobs that `defer` makes: when the surrounding transactions commit, in one atomic step per queue. Runs of
recurring entries are copies of the entry's record, made by `occur.lua` and `recurring.runs.push_run`.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from typing import Any

from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer

from jobs import conf, runtime
from jobs.batches.record import opened as opened_batch
from jobs.broker import keys
from jobs.broker.ahead import Call, run_ahead
from jobs.broker.connections import Script, Word, by_server, get_connection, reaching, run_script
from jobs.broker.ids import new_id as new_id
from jobs.broker.ids import new_ids as new_ids
from jobs.broker.times import as_text, iso
from jobs.errors import ChangeRefusedError, PrerequisiteError, UnknownQueueError
from jobs.job import MandateJob
from jobs.limits import values
from jobs.outbox import hooks, rows
from jobs.outbox.hooks import on_commit as on_commit
from jobs.record import more, overtaken, payload
from jobs.record.new_jobs import Lock, NewJob, words
from jobs.record.prerequisites import LINKED_AT_ONCE, announce, link_all
from jobs.runtime import Transactions
from jobs.safe_logging import safe_logger

logger = safe_logger("jobs")

SLICE = 300  # jobs a round trip: a few milliseconds of the server's time; more are written no faster
SLICE_FEW = 100  # of jobs that take turns or are members of a batch, which cost as much as two or three others
SLICE_BYTES = 262_144  # of payloads a round trip, unless one job alone has more: a slow link must not time out
SLICE_LINKS = LINKED_AT_ONCE  # prerequisites a round trip; a job with more is linked to them once it is written
LINES = 10  # jobs of a slice that are logged one by one; more share a line

_PUSH = Script("push.lua")


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
    return Queue(check(name), connection=get_connection(name), job_class=MandateJob, serializer=JSONSerializer)


def pause(name: str) -> None:
    """Stop taking jobs from this queue; every worker sees it within a second. Running jobs continue."""
    get_connection(check(name)).sadd(keys.PAUSED, name)


def resume(name: str) -> None:
    """Start taking jobs from this queue again."""
    get_connection(check(name)).srem(keys.PAUSED, name)


def paused() -> set[str]:
    """Return the names of the paused queues."""
    clients = {id(client): client for client in map(get_connection, conf.queues())}
    return {as_text(name) for client in clients.values() for name in client.smembers(keys.PAUSED)}


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
    Write jobs once every open transaction, on any database, has committed; immediately if none is open. All are durable
    or none: durable ones wait for the outbox's transaction alone, and are in the outbox if Redis does not answer.

    One rollback, even of a savepoint, drops all of them. Returns a handle for each job; the write updates the handles:
    the job is written, or it is a duplicate. The block of a batch takes the jobs, and writes them when it ends.
    Raises RedisUnavailableError, here or where the transaction ends, if Redis does not answer; for durable ones
    DatabaseError, if they cannot be inserted.
    """
    block = opened_batch.get()
    return push_with_handles(jobs, handles_of(jobs)) if block is None else block.take(jobs)


def handles_of(jobs: Sequence[NewJob]) -> list[MandateJob]:
    """Return a handle for each job."""
    clients = {queue: get_connection(queue) for queue in {job.queue for job in jobs}}
    return [MandateJob.handle(job.id, job.queue, job.payload, clients[job.queue]) for job in jobs]


def push_with_handles(jobs: Sequence[NewJob], handles: list[MandateJob]) -> list[MandateJob]:
    """`push` jobs that have handles, whether or not a batch is open."""
    opened = runtime.open_transactions()
    if jobs and jobs[0].durable:
        opened = hooks.begin(jobs, handles, opened, write)
        if not opened:
            return handles
    if opened:
        transactions = Transactions.of(opened)
        for handle in handles:
            handle.transactions = transactions
    if len(opened) == 1:
        hooks.at_commit(opened[0], jobs, handles, write)
    else:
        on_commit(lambda: write(jobs, handles), opened)
    return handles


def copy(job: MandateJob) -> MandateJob:
    """
    Enqueue a copy of `job`, which may be in any state, to run now, in the same queue.

    Prerequisites, batches and the deadline are not copied; the lock of a unique command is. Returns the copy's handle.
    Raises ChangeRefusedError for a plain RQ job or a job without a record; UnknownQueueError.
    """
    names = ("data", "timeout", "result_ttl", "context", "durable", "limits", "unique", "unique_ms", more.FIELD)
    stored: Any = job.connection.hmget(job.key, *names)
    data, *kept, lock, milliseconds, letters = stored
    if not payload.is_command(data or b""):
        raise ChangeRefusedError(f"Job {job.id} cannot be copied: it has no record, or it is a plain RQ job.")
    pairs = [(name, value) for name, value in zip(names[1:], kept, strict=False) if value]
    if letters:  # its steps, and how far they have come, are not the copy's
        pairs.append((more.FIELD, more.without(as_text(letters), more.STEPS) or more.FEW))
    fields: tuple[Word, ...] = tuple(chain.from_iterable(pairs))
    unique = Lock(as_text(lock), int(milliseconds) / 1_000) if lock else None
    new = NewJob(new_id(), check(job.origin), payload.inflated(data), fields=fields, lock=unique)
    durable, turn = rows.is_on() and "durable" in fields, values.share_of(fields)
    return push([new._replace(durable=durable, share=turn)])[0]


def write(jobs: Sequence[NewJob], handles: Sequence[MandateJob]) -> None:
    """Write jobs now, and note in their handles that they are written. Raises redis-py's errors, JobsError."""
    pairs = list(zip(jobs, handles, strict=True))
    if len(pairs) > 1 and not any(job.prerequisites.jobs for job in jobs):
        pairs.sort(key=lambda pair: pair[0].queue)  # the jobs of a queue keep their order, and share a call
    for client, of_server in groupby(pairs, key=lambda pair: pair[1].connection):
        with reaching(client):
            slices = list(_slices(of_server))
            for alone, of_kind in groupby(slices, key=_is_alone) if len(slices) > 1 else ((True, slices),):
                if not alone:
                    _write_ahead(client, list(of_kind))
                    continue
                for of_slice in of_kind:
                    _write_slice(client, of_slice)


def _slices(pairs: Iterable[_Pair]) -> Iterator[list[_Pair]]:
    """
    Yield the jobs of one server in slices of one queue each, that neither the server nor the link is busy with for
    long. A job comes after its unique prerequisites, which may turn out to be duplicates.
    """
    of_slice: list[_Pair] = []
    size = links = 0
    for pair in pairs:
        job = pair[0]
        size += len(job.payload)
        links += len(job.prerequisites.jobs)
        if of_slice and (
            len(of_slice) == (SLICE_FEW if job.share or job.batch else SLICE)
            or size > SLICE_BYTES
            or links > SLICE_LINKS
            or job.queue != of_slice[0][0].queue
            or (job.prerequisites.jobs and _waits_for_unique(job, of_slice))
        ):
            yield of_slice
            of_slice, size, links = [], len(job.payload), len(job.prerequisites.jobs)
        of_slice.append(pair)
    if of_slice:
        yield of_slice


def _waits_for_unique(job: NewJob, pairs: Sequence[_Pair]) -> bool:
    ids = set(job.prerequisites.ids())
    return any((other.lock or other.collapse) and other.id in ids for other, _ in pairs)


def _is_alone(pairs: Sequence[_Pair]) -> bool:
    """
    Whether a slice must be built after the last one is answered, and answered before the next is sent: a job may be
    refused, has very many links, or a prerequisite that is written with it.
    """
    for job, _ in pairs:
        first = job.prerequisites
        if first.jobs and (job.lock or len(first.jobs) > SLICE_LINKS or first.unwritten() or first.durable_ids()):
            return True
    return False


def _write_slice(client: Redis, pairs: Sequence[_Pair]) -> None:
    now, queue = runtime.now(), pairs[0][0].queue
    waiting = [job.prerequisites for job, _ in pairs if job.prerequisites.jobs]
    awaited = overtaken.mark(waiting, [handle for _, handle in pairs]) if waiting else []
    many = {job.id: _announced(client, job) for job, _ in pairs if len(job.prerequisites.jobs) > SLICE_LINKS}
    arguments = words(queue, [job for job, _ in pairs], now, many)
    refused = _settle(pairs, now, run_script(client, _PUSH, _keys(queue), arguments, is_repeatable=True))
    if awaited:
        overtaken.release(awaited)
    if many:
        link_all(client, (job.id for job, handle in pairs if many.get(job.id) and handle.id == job.id))
    if refused:
        raise PrerequisiteError(f"Job {refused[0]} cannot be a prerequisite of its own duplicate: it is unique.")
    if logger.isEnabledFor(logging.INFO):
        _log(pairs)


def _write_ahead(client: Redis, slices: Sequence[Sequence[_Pair]]) -> None:
    """Write slices none of which is refused, each while the server still writes the one before."""
    times: list[float] = []
    answers: list[Any] = []

    def calls() -> Iterator[Call]:
        for pairs in slices:
            times.append(runtime.now())
            yield _keys(pairs[0][0].queue), words(pairs[0][0].queue, [job for job, _ in pairs], times[-1], {})

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
            if handle.is_awaited:
                overtaken.release([handle])
        elif (holder := as_text(duplicates[position])) in job.prerequisites.ids() and not job.durable:
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
        besides = f", {duplicates} of them {'collapsed' if job.collapse else 'duplicates'}" if duplicates else ""
        names = ", ".join(sorted({str(handle.command_name) for _, handle in pairs}))
        logger.info(
            "enqueued to %s: %d jobs of %s%s", job.queue, len(pairs), names, besides, extra={"queue": job.queue}
        )
        return
    for job, handle in pairs:
        when = "" if job.due is None else f", due {iso(job.due)}"
        kind = "collapsed into" if job.collapse else "duplicate of"
        what = f"{kind} job {handle.id}" if handle.duplicate else f"enqueued to {job.queue}{when}"
        fields = {"job_id": handle.id, "command": handle.command_name, "queue": job.queue}
        logger.info("%s: %s (job %s)", what, handle.description, job.id, extra=fields)


def _announced(client: Redis, job: NewJob) -> int:
    """Write the prerequisites of a job with many; returns their number. Those not written yet go with the job."""
    ids = set(job.prerequisites.ids()).difference(job.prerequisites.unwritten(), job.prerequisites.durable_ids())
    announce(client, job.id, list(ids))
    return len(ids)
