"""A turn that one process has at a time. Only its owner renews or frees it; it ends by itself when its owner does."""

import os
from collections.abc import Callable
from typing import Any

from jobs.broker.connections import Script

_LEASE = Script("shared.lua", "lease.lua")


class Lease:
    """One process's part in a turn. `run(script, keys, *arguments)` is how it asks the server."""

    def __init__(self, key: str, milliseconds: int, run: Callable[..., Any]) -> None:
        self._key, self._milliseconds, self._run = key, milliseconds, run
        self._token = os.urandom(8).hex()

    def hold(self) -> bool:
        """Take the turn, or keep it. Whether it is ours now. Raises redis-py's errors."""
        return bool(self._run(_LEASE, [self._key], self._token, self._milliseconds))

    def free(self) -> None:
        """Leave the turn to another. Raises redis-py's errors."""
        self._run(_LEASE, [self._key], self._token, 0)
