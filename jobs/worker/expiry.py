"""Registries hold no job whose record has expired, whether or not anybody looks at them."""

import time
from collections.abc import Iterable

from jobs.broker import keys
from jobs.broker.connections import Script
from jobs.record.history import KEPT_FOR
from jobs.worker.connection import Wire

SLICE = 1_000  # jobs a call
LONGEST = 0.1  # seconds of slices in a row, after which the parent sees to its children again

_CLEAN = Script("clean.lua")


def clean(wire: Wire, queues: Iterable[str]) -> None:
    """Strike off what has expired, as far as that goes in LONGEST. Raises redis-py's errors."""
    until = time.monotonic() + LONGEST
    for queue in queues:
        registries = [keys.registry(registry, queue) for registry in ("finished", "failed", "canceled")]
        struck = SLICE
        while struck == SLICE:
            struck = wire.run(_CLEAN, registries, keys.RQ, SLICE, KEPT_FOR)
            if time.monotonic() > until:  # each queue gets one slice at the least
                break
