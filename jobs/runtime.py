"""
The engine's clock, server and open transactions, which the testing kit replaces; and the functions of the engine that
call a job's code. Everything else is the same code in a test and in production.
"""

import threading
import time
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any, NamedTuple, TypeVar

from django.db import connections

# Seconds since the epoch, for every decision that depends on the time.
now: Callable[[], float] = time.time

CLOCK_SET = 1.0  # seconds
_ahead = 0.0  # seconds of the server's clock before this process's monotonic one, as last measured


def measure(time_of_server: Sequence[bytes | str | int]) -> None:
    """
    Measure how far ahead the server's clock is, from an answer of TIME that has just arrived. The longer the answer was
    under way, the lower the measure: a lower one counts only if the clock was set, by more than CLOCK_SET.
    """
    global _ahead
    seconds, microseconds = time_of_server
    measured = int(seconds) + int(microseconds) / 1e6 - time.monotonic()
    if not _ahead - CLOCK_SET < measured < _ahead:
        _ahead = measured


def server_now() -> float:
    """
    Return the server's clock, in seconds. A worker process uses it as `now`: the clocks of machines differ, and may be
    set while they run.
    """
    return _ahead + time.monotonic()


# Returns the stand-in for every Redis server; None: the servers themselves are used.
stand_in: Callable[[], Any] | None = None


def open_transactions() -> list[str]:
    """Return the aliases of the databases with an open transaction."""
    return [c.alias for c in connections.all(initialized_only=True) if c.in_atomic_block]


class Transactions(NamedTuple):
    """The transactions that a thread had open at one time."""

    thread: int
    aliases: tuple[str, ...]

    @classmethod
    def open_now(cls) -> "Transactions":
        """Return those of the calling thread."""
        return cls(threading.get_ident(), tuple(open_transactions()))

    @property
    def are_over(self) -> bool:
        """Whether they have certainly ended; only their own thread can determine that."""
        return self.thread == threading.get_ident() and not set(self.aliases).intersection(open_transactions())


# --- which functions call a job's code -------------------------------------------------------

F = TypeVar("F", bound=Callable[..., Any])

starts: set[CodeType] = set()
passages: set[CodeType] = set()


def starts_job(function: F) -> F:
    """Decorator: the function calls a job's code. An interrupt ignores the frames outside it."""
    starts.add(function.__code__)
    return function


def passage(function: F) -> F:
    """Decorator: the engine's function holds nothing while it calls a command's code for another command."""
    passages.add(function.__code__)
    return function
