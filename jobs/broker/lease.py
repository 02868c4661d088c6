"""A lease that one process holds at a time. Only its owner renews or frees it; it expires after its owner has died."""

import os
from collections.abc import Callable
from typing import Any

from jobs.broker.connections import Script

_LEASE = Script("lease.lua")


class Lease:
    """One process's handle on a lease. `run(script, keys, *arguments)` runs a script on the server."""

    def __init__(self, key: str, milliseconds: int, run: Callable[..., Any]) -> None:
        self._key, self._milliseconds, self._run = key, milliseconds, run
        self._token = os.urandom(8).hex()

    def hold(self) -> bool:
        """Take or renew the lease. Returns whether this process holds it. Raises redis-py's errors."""
        return bool(self._run(_LEASE, [self._key], self._token, self._milliseconds))

    def free(self) -> None:
        """Free the lease, if this process holds it. Raises redis-py's errors."""
        self._run(_LEASE, [self._key], self._token, 0)
