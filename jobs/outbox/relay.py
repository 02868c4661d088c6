"""
The relay: sends the rows of the outbox whose process did not, because Redis was away or it died. Where rows are kept
until their jobs have ended, it deletes those, and sends again what Redis no longer knows.

Sending and deleting may be repeated, and done by several at once: `push.lua` leaves alone what it has had. So the lease
only saves work, and no row is locked.
"""

from collections.abc import Collection, Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from redis import Redis
from redis.exceptions import ResponseError

from jobs import conf, queues
from jobs.broker import keys
from jobs.broker.connections import get_connection, reaching, same_server
from jobs.broker.times import DAY, as_text
from jobs.errors import PayloadError
from jobs.job import MandateJob
from jobs.outbox import rows
from jobs.record import packed
from jobs.record.new_jobs import NewJob
from jobs.safe_logging import safe_logger

if TYPE_CHECKING:
    from jobs.models import Unsent

logger = safe_logger("jobs")

AFTER = 2.0  # seconds that a row is left to the process that inserted it
DRAINED = 500  # ids of ended jobs in one turn's step
UNFINISHED = (b"queued", b"scheduled", b"deferred", b"started")  # RQ's statuses of jobs that have not ended


class Relay:
    """The relay of one server's queues. All methods raise DatabaseError, RedisError and RedisUnavailableError."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._refused: set[str] = set()  # rows that were logged

    def queues(self) -> list[str]:
        """Return the names of the server's queues."""
        return [name for name in conf.queues() if same_server(get_connection(name), self._client)]

    def send(self, age: float = AFTER) -> int:
        """Send all rows that are `age` seconds old, in order of their ids. Returns how many were sent."""
        names, after, number = self.queues(), 0, 0
        while some := rows.unsent(names, age, after):
            after = some[-1].id
            sent = self._send(some)
            rows.sent(sent)
            number += len(sent)
        return number

    def drain(self) -> int:
        """Delete the rows of jobs that have ended. Returns how many ended jobs were reported."""
        number = 0
        while members := self._ended():
            rows.remove(members)  # first: an id that is gone from the set has no row
            self._client.srem(keys.OUTBOX_ENDED, *members)
            number += len(members)
        return number

    def _ended(self) -> list[str]:
        members: Any = self._client.srandmember(keys.OUTBOX_ENDED, DRAINED)
        return [as_text(member) for member in members]

    def sweep(self, after: int = 0) -> int:
        """
        Look at the next kept rows after an id: send again what Redis has lost, delete what has ended without a report.
        Returns the last id, 0 at the end.
        """
        some = rows.kept(self.queues(), after)
        lost, ended = self._unknown([row.job_id for row in some])
        # An id may have left the set of those that have ended since the rows were read; its row is gone by now.
        left = rows.having([*lost, *ended])
        rows.remove([job_id for job_id in ended if job_id in left])
        if again := [row for row in some if row.job_id in lost and row.job_id in left]:
            logger.warning("%d jobs, of which Redis knows nothing, are sent again", len(again))
            self._send(again, is_again=True)
        return some[-1].id if len(some) == rows.SLICE else 0

    def _unknown(self, ids: Sequence[str]) -> tuple[set[str], set[str]]:
        """Return those of which Redis knows nothing, and those that have ended: only a trace is left of them."""
        with self._client.pipeline(transaction=False) as pipeline:
            for job_id in ids:
                pipeline.exists(keys.job(job_id))
                pipeline.exists(keys.gone(job_id), keys.sent(job_id))
                pipeline.sismember(keys.OUTBOX_ENDED, job_id)
            answers = iter(pipeline.execute())
        lost: set[str] = set()
        ended: set[str] = set()
        for job_id in ids:
            has_record, traces, is_reported = next(answers), next(answers), next(answers)
            if not has_record and not is_reported:
                (ended if traces else lost).add(job_id)
        return lost, ended - self._collapsed(ended) if ended else ended

    def _collapsed(self, ids: Collection[str]) -> set[str]:
        """
        Return those that have collapsed into a job that has not ended. Their rows have its arguments, so they are kept
        as long as that job, and so is the trace that says which job it is.
        """
        with self._client.pipeline(transaction=False) as pipeline:
            for job_id in ids:
                pipeline.get(keys.sent(job_id))
            traces = pipeline.execute(raise_on_error=False)  # a key of another type names no job
        others = {job_id: each for job_id, each in zip(ids, traces, strict=True) if isinstance(each, bytes) and each}
        with self._client.pipeline(transaction=False) as pipeline:
            for other in others.values():
                pipeline.hmget(keys.job(as_text(other)), "collapse", "status")
            records = pipeline.execute(raise_on_error=False)
        waiting = {
            job_id
            for job_id, record in zip(others, records, strict=True)
            if isinstance(record, list) and record[0] and record[1] in UNFINISHED
        }
        for job_id in waiting:
            self._client.expire(keys.sent(job_id), DAY)
        return waiting

    def _send(self, some: "Sequence[Unsent]", *, is_again: bool = False) -> list[str]:
        """Send rows. Returns the ids of the jobs that Redis has now."""
        new = [job for row in some if (job := self._read(row)) is not None]
        if is_again:
            new = _without_ended(new)
        sent: list[str] = []
        for queue, of_queue in groupby(new, key=lambda job: job.queue):
            sent += self._push(queue, list(of_queue))
        return sent

    def _push(self, queue: str, new: Sequence[NewJob]) -> list[str]:
        handles = [MandateJob.handle(job.id, queue, job.payload, self._client) for job in new]
        try:
            queues.write(new, handles)
        except ResponseError as error:
            if len(new) > 1:  # one that the server refuses keeps no other
                return [job_id for job in new for job_id in self._push(queue, [job])]
            self._refuse(new[0].id, error)
        return [job.id for job, handle in zip(new, handles, strict=True) if handle.is_written]

    def _read(self, row: "Unsent") -> NewJob | None:
        try:
            return packed.unpack(row.job_id, row.queue, bytes(row.packed))
        except PayloadError as error:
            self._refuse(row.job_id, error)
            return None

    def _refuse(self, job_id: str, error: Exception) -> None:
        if job_id not in self._refused and len(self._refused) < 1_000:
            self._refused.add(job_id)
            logger.error("job %s stays in the outbox, and is logged once: %s", job_id, error)


def _without_ended(new: Iterable[NewJob]) -> list[NewJob]:
    """Let jobs that are sent again wait for those durable prerequisites only that have not ended, so have a row."""
    new = list(new)
    left = rows.having({each for job in new for each in job.prerequisites.durable})
    return [
        job._replace(
            prerequisites=job.prerequisites._replace(
                durable=tuple(each for each in job.prerequisites.durable if each in left)
            )
        )
        for job in new
    ]


def relays() -> list[Relay]:
    """Return a relay for each server of the project's queues."""
    found: list[Any] = []
    for name in conf.queues():
        client = get_connection(name)
        if not any(same_server(client, each) for each in found):
            found.append(client)
    return [Relay(client) for client in found]


def send_all(age: float = 0.0) -> int:
    """Send all unsent rows now, without a lease. Returns how many were sent."""
    number = 0
    for relay in relays():
        with reaching(relay._client):
            number += relay.send(age)
    return number
