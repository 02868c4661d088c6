"""
Where the testing kit steps in: the clock, the server, and which transactions count. Everything else is the same code in
a test and in production.
"""

import time
from collections.abc import Callable
from typing import Any

from django.db import connections

# Seconds since the epoch, for everything that decides by the time.
now: Callable[[], float] = time.time

# What stands in for every Redis server; None for the servers themselves.
stand_in: Callable[[], Any] | None = None


def open_transactions() -> list[str]:
    """The aliases of the databases on which a transaction is open."""
    return [c.alias for c in connections.all(initialized_only=True) if c.in_atomic_block]
