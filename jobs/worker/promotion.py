"""Due jobs, from the scheduled registries to their queues: one worker does it at a time, all are ready to."""

import time
from collections.abc import Iterable

from jobs import runtime
from jobs.broker import keys
from jobs.broker.connections import Script
from jobs.broker.lease import Lease
from jobs.broker.times import iso
from jobs.worker.connection import Wire

LEASE = 5_000  # milliseconds: how long nobody promotes after the one who did has died
SLICE = 200  # jobs a call: some milliseconds of the server's time
LONGEST = 0.1  # seconds of slices in a row, after which the parent sees to its children again

_PROMOTE = Script("shared.lua", "promote.lua")


class Promotion:
    """This worker's part in promoting. The lease saves the others the work; promoting twice would do no harm."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._lease = Lease(keys.lease("promotion"), LEASE, wire.run)

    def run(self, queues: Iterable[str]) -> int:
        """Promote what is due, if it is our turn. Returns how many jobs. Raises redis-py's errors."""
        if not self._lease.hold():
            return 0
        promoted, until = 0, time.monotonic() + LONGEST
        for queue in queues:
            moved = SLICE
            while moved == SLICE:
                places = [keys.registry("scheduled", queue), keys.queue(queue)]
                moved = self._wire.run(_PROMOTE, places, keys.RQ, iso(runtime.now()), SLICE)
                promoted += moved
                if time.monotonic() > until:  # each queue gets one slice at the least
                    break
        return promoted

    def end(self) -> None:
        """Leave the turn to another. Raises redis-py's errors."""
        self._lease.free()
