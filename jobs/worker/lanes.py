"""Wakes lanes that are due or have room, and frees the slots of ended workers. To do it twice does no harm."""

import time

from jobs import runtime
from jobs.broker import keys
from jobs.broker.connections import Script
from jobs.broker.times import iso
from jobs.worker.connection import Wire

SLICE = 50  # lanes, workers and slots per call: a few milliseconds of the server's time

_LANES = Script("lanes.lua")


def look(wire: Wire, at: int, until: float) -> int:
    """
    Wake the lanes that are due, look at some of all lanes, from number `at` on, and at some workers that own slots.
    While more lanes are due, go on until `until` (monotonic seconds). Returns the number of the next lane. Raises
    redis-py's errors.
    """
    is_due = True
    while is_due:
        looked_at, _, more = _call(wire, "", at)
        at = at + looked_at if looked_at == SLICE else 0
        is_due = bool(more) and time.monotonic() < until
    return at


def free(wire: Wire, worker: str) -> None:
    """Free the slots of a worker whose process has ended. Raises redis-py's errors."""
    freed = SLICE
    while freed == SLICE:
        _, freed, _ = _call(wire, worker, 0)


def _call(wire: Wire, worker: str, at: int) -> tuple[int, int, int]:
    looked_at, freed, more = wire.run(_LANES, [], keys.RQ, iso(runtime.now()), worker, SLICE, at)
    return looked_at, freed, more
