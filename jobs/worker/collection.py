"""
Collects the figures, once a minute: samples of the queues, sums of the hours that have ended, and their digests.

The parent does it, because no queue may delay it: a job in the lowest queue waits for just the queues that it measures.
"""

import time

from jobs import conf, runtime
from jobs.broker import keys
from jobs.broker.connections import get_connection
from jobs.broker.lease import Lease
from jobs.broker.times import MINUTE
from jobs.inspection import attempt_counts, digests, releases, samples, workers
from jobs.worker.connection import Wire

LEASE = 5_000  # milliseconds in which the other parents leave a minute to the one that began it
LONGEST = 0.1  # seconds of slices in a row, after which the parent serves its children again


class Collection:
    """
    This worker's collection, of its queue's server. The lease spares other workers the work; each may do it, and
    collecting twice would write the same.
    """

    def __init__(self, queue: str, wire: Wire) -> None:
        self._queue = queue
        self._lease = Lease(keys.lease("figures"), LEASE, wire.run)
        self._minute = 0  # the latest one that this worker has seen to, by itself or by the lease
        self._is_behind = False  # whether hours are left to sum up

    def run(self) -> None:
        """Collect, if a minute has begun, or go on where the last call stopped. Raises redis-py's errors."""
        minute = int(runtime.now()) // MINUTE
        if (minute == self._minute and not self._is_behind) or not conf.get("COLLECT_METRICS"):
            return
        if not self._lease.hold():
            self._minute, self._is_behind = minute, False
            return
        client, until = get_connection(self._queue), time.monotonic() + LONGEST
        if minute != self._minute:
            alive = workers.listed_on(client, jobs=0)
            samples.collect_on(client, alive)
            releases.follow_on(client, alive)
            attempt_counts.pack_on(client)
            self._minute = minute
        self._is_behind = True
        if attempt_counts.roll_up_on(client, until):
            self._is_behind = digests.write_missing(client)
