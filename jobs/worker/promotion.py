"""
Promotes due jobs from the scheduled registries to their queues, and wakes the lanes of limits that are due or have
room. One worker at a time does it; any worker may.
"""

import time
from collections.abc import Iterable

from jobs import runtime
from jobs.broker import keys
from jobs.broker.connections import Script
from jobs.broker.lease import Lease
from jobs.broker.times import iso
from jobs.worker import lanes
from jobs.worker.connection import Wire

LEASE = 5_000  # milliseconds without promotion after the worker that promotes has died
SLICE = 200  # jobs per call: some milliseconds of the server's time
LONGEST = 0.1  # seconds of slices in a row, after which the parent serves its children again

_PROMOTE = Script("promote.lua")


class Promotion:
    """This worker's promotion. The lease spares other workers the work; to promote twice would do no harm."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._lane = 0  # the lane that is looked at next
        self._lease = Lease(keys.lease("promotion"), LEASE, wire.run)

    def run(self, queues: Iterable[str]) -> int:
        """
        Promote due jobs and wake lanes, if this worker holds the lease. Returns the number of promoted jobs. Raises
        redis-py's errors.
        """
        if not self._lease.hold():
            return 0
        promoted, until = 0, time.monotonic() + LONGEST
        for queue in queues:
            moved = SLICE
            while moved == SLICE:
                places = [keys.registry("scheduled", queue), keys.queue(queue), keys.registry("failed", queue)]
                moved = self._wire.run(_PROMOTE, places, keys.RQ, iso(runtime.now()), SLICE)
                promoted += moved
                if time.monotonic() > until:  # each queue gets one slice at the least
                    break
        self._lane = lanes.look(self._wire, self._lane, until)
        return promoted

    def end(self) -> None:
        """Release the lease. Raises redis-py's errors."""
        self._lease.free()
