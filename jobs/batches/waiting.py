"""Waits for the end of a batch, as `job.wait` does for that of a job; refused where it could never come."""

from typing import Any

from asgiref.sync import sync_to_async
from redis import Redis

from jobs import conf
from jobs.batches import record
from jobs.batches.block import Block
from jobs.batches.record import MemberState
from jobs.broker import keys
from jobs.broker.connections import get_connection, reaching, same_server
from jobs.broker.times import as_text
from jobs.errors import WaitRefusedError
from jobs.waits import waiting
from jobs.waits.end import End
from jobs.waits.waiting import Timeout


class Whole:
    """Stands for a batch where a job is waited for: it is the member that stands for it in a batch around it."""

    command_name, state = "", "open"

    def __init__(self, batch_id: str, block: Block | None, client: Redis | None) -> None:
        """`block`: the one that has opened it here, if any. Raises WaitRefusedError, RedisUnavailableError."""
        self.id, self.batch_id, self.text = record.CHILD + batch_id, batch_id, f"Batch {batch_id}"
        self.is_written = block is None or block.is_written
        self.is_durable = block is not None and block.is_durable
        self.transactions = block and block.transactions
        self.block, self.whereabouts = None, (block.sealer_id if block is not None else "", (keys.batch(batch_id),))
        if block is not None and not block.stands_for:  # else it is the other flow
            block.refuse_wait(self.text)
        self.connection = client or get_connection(next(iter(conf.queues())))
        self.origin = self._queue()

    def value(self, end: End) -> bool:
        """Return whether every member has finished. Raises BatchNotFoundError."""
        if not end.has_record:
            raise record.not_found(self.batch_id)
        return end.state == b"finished"

    def _queue(self) -> str:
        """Return the queue of a member that has not ended; without one, any of the server."""
        _, job_id = record.member_of.get()
        pending = keys.batch_members(MemberState.PENDING, self.batch_id)
        with reaching(self.connection), self.connection.pipeline(transaction=False) as pipeline:
            pipeline.sismember(pending, job_id)
            pipeline.srandmember(pending, 1)
            is_member, some = pipeline.execute()
        if job_id and is_member:
            raise WaitRefusedError(
                f"{self.text} cannot be waited for by job {job_id}, which is a member: the batch ends after the job. "
                "Let a callback of the batch do the rest."
            )
        queue: Any = self.connection.hget(keys.job(as_text(some[0])), "origin") if some else None
        same = (name for name in conf.queues() if same_server(get_connection(name), self.connection))
        return as_text(queue) if queue and as_text(queue) in conf.queues() else next(same)


def wait(batch_id: str, block: Block | None, client: Redis | None, timeout: Timeout) -> bool:
    """See `Batch.wait`."""
    waiting.refuse_on_loop(f"Batch {batch_id}", "batch.wait()", "batch.await_end()")
    whole = Whole(batch_id, block, client)
    return whole.value(waiting.until_end(whole, timeout))


async def await_end(batch_id: str, block: Block | None, client: Redis | None, timeout: Timeout) -> bool:
    """See `Batch.await_end`."""
    whole = await sync_to_async(Whole)(batch_id, block, client)
    return whole.value(await waiting.await_end(whole, timeout))
