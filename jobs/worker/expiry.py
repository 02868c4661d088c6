"""Removes jobs whose records have expired from the registries, whether or not anybody reads them."""

import time
from collections.abc import Iterable

from jobs.broker import keys
from jobs.broker.connections import Script
from jobs.record.history import KEPT_FOR
from jobs.worker.connection import Wire

SLICE = 1_000  # jobs per call
LONGEST = 0.1  # seconds of slices in a row, after which the parent serves its children again

_CLEAN = Script("clean.lua")


def clean(wire: Wire, queues: Iterable[str]) -> None:
    """Remove expired jobs from the registries of these queues, in slices until LONGEST. Raises redis-py's errors."""
    until = time.monotonic() + LONGEST
    for queue in queues:
        registries = [keys.registry(registry, queue) for registry in ("finished", "failed", "canceled")]
        removed = SLICE
        while removed == SLICE:
            removed = wire.run(_CLEAN, registries, keys.RQ, SLICE, KEPT_FOR)
            if time.monotonic() > until:  # each queue gets at least one slice
                break
