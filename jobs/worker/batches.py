"""
Looks after batches: ends members that no script of ours has ended (RQ's tools, expiry), and cancels the callbacks of
batches that are forgotten. One worker at a time does it; to do it twice would do no harm.
"""

import time
from typing import Any

from redis import Redis

from jobs import control, runtime
from jobs.batches import members, record, rerun
from jobs.batches.record import RESULTS_KEPT, MemberState
from jobs.broker import keys
from jobs.broker.lease import Lease
from jobs.broker.times import DAY, as_text, number_of
from jobs.errors import ChangeRefusedError
from jobs.job import MandateJob
from jobs.safe_logging import safe_logger
from jobs.worker.connection import Wire

logger = safe_logger("jobs.worker")

LEASE = 15_000  # milliseconds in which other workers leave the work to this one
EVERY = 5.0  # seconds between two turns
RENEWED = 30 * DAY  # seconds after which the results of a flow that has not ended are kept for RESULTS_KEPT again
BATCHES, MEMBERS = 20, 50  # batches in a turn, and members at random of each


class BatchSweep:
    """This worker's turns. All methods raise redis-py's errors and RedisUnavailableError."""

    def __init__(self, wire: Wire, client: Redis) -> None:
        self._wire, self._client = wire, client
        self._lease = Lease(keys.lease("batches"), LEASE, wire.run)
        self._next_turn, self._place = 0.0, 0

    def run(self) -> None:
        """Make a turn, if it is time for one and this worker holds the lease."""
        now = time.monotonic()
        if now < self._next_turn:
            return
        self._next_turn = now + EVERY
        if self._wire.call("EXISTS", keys.BATCHES) and self._lease.hold():
            self.turn()

    def turn(self) -> None:
        """Look at the next batches; after the last one, the first follows."""
        listed: Any = self._wire.read("ZRANGE", keys.BATCHES, self._place, self._place + BATCHES - 1, "WITHSCORES")
        forgotten = 0
        for member, score in zip(listed[::2], listed[1::2], strict=True):
            batch_id = as_text(member)
            is_written = record.sweep(self._client, batch_id, MEMBERS) >= 0
            if is_written:
                self._look_at_flow(batch_id)
            if not is_written and float(score) < runtime.now() - DAY:
                forgotten += self._forget(batch_id)
        self._place = self._place + BATCHES - forgotten if len(listed) == 2 * BATCHES else 0

    def _look_at_flow(self, batch_id: str) -> None:
        """
        Keep the results of a flow's steps until it has ended, and then as long as its record, a day at least.

        Enqueue the steps that are to run again, if the process that wanted it is gone.
        """
        values: Any = self._client.hmget(keys.batch(batch_id), "flow", "created", "kept", "freed")
        is_flow, created, kept, freed = values
        if not is_flow:
            return
        rerun.carry_on(self._client, batch_id)
        now, is_open = (
            runtime.now(),
            self._client.exists(keys.batch_holds(batch_id), keys.batch_members(MemberState.PENDING, batch_id)),
        )
        if is_open:
            if now - number_of(created if kept is None else kept) > RENEWED:
                self._keep_results(batch_id, now + RESULTS_KEPT, "kept")
        elif not freed:
            left: Any = self._client.ttl(keys.batch(batch_id))
            self._keep_results(batch_id, now + max(DAY, left), "freed")

    def _keep_results(self, batch_id: str, until: float, note: str) -> None:
        """Let the finished steps and their results expire at that time, and note when this was done."""
        for some in members.slices(members.job_ids(self._client, batch_id, MemberState.FINISHED)):
            with self._client.pipeline(transaction=False) as pipeline:
                for job in members.handles(self._client, some):
                    pipeline.expireat(keys.job(job.id), int(until))
                    pipeline.expireat(keys.results(job.id), int(until))
                    pipeline.zadd(keys.registry("finished", job.origin), {job.id: int(until)}, xx=True)
                pipeline.execute()
        self._client.hset(keys.batch(batch_id), note, int(runtime.now()))

    def _forget(self, batch_id: str) -> bool:
        """
        Forget a batch whose record has expired, unless members are pending: then it was never written. Callbacks that
        still wait can wait no longer.
        """
        if self._client.exists(keys.batch_members("pending", batch_id)):
            return False
        for event in record.EVENTS:
            job_id = record.callback_id(batch_id, event)
            if self._client.hget(keys.job(job_id), "status") == b"deferred":
                job = MandateJob.handle(job_id, "", b"", self._client)
                try:
                    control.cancel(job, reason="its batch is forgotten, and the event did not come")
                except ChangeRefusedError as error:
                    logger.warning("a callback of batch %s stays: %s", batch_id, error)
        self._client.unlink(*record.keys_of(batch_id))
        self._client.zrem(keys.BATCHES, batch_id)
        return True
