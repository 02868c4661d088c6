"""
The engine's clock, server and open transactions, which the testing kit replaces; and the functions of the engine that
call a job's code. Everything else is the same code in a test and in production.
"""

import threading
import time
from asyncio import _get_running_loop
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import CodeType
from typing import Any, NamedTuple, TypeVar
from weakref import WeakValueDictionary

from asgiref.sync import AsyncToSync
from django.db import connections
from django.db.backends.signals import connection_created
from django.db.transaction import TransactionManagementError
from django.dispatch import receiver

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


def open_transactions() -> list[Any]:
    """Return the connections of the caller's databases that have an open transaction."""
    return [connection for connection in callers_connections() if has_begun(connection)]


class Transactions(NamedTuple):
    """The transactions that a thread had open at one time."""

    thread: int
    aliases: tuple[str, ...]

    @classmethod
    def of(cls, opened: Sequence[Any]) -> "Transactions":
        """Return those of the caller, by what `open_transactions` has returned."""
        thread = opened[0]._thread_ident if opened else threading.get_ident()
        return cls(thread, tuple(connection.alias for connection in opened))

    @property
    def are_over(self) -> bool:
        """Whether they have certainly ended; only their own thread can determine that."""
        if self.thread != threading.get_ident():
            return False
        return not set(self.aliases).intersection(connection.alias for connection in open_transactions())


# --- transactions that Django does not show --------------------------------------------------

_connected: WeakValueDictionary[int, Any] = WeakValueDictionary()  # the connections of all threads, by id()


@receiver(connection_created, dispatch_uid="jobs.runtime")
def _note_connection(connection: Any, **_: object) -> None:
    _connected[id(connection)] = connection


def callers_connections() -> list[Any]:
    """
    Return the connections of the calling thread, and in a coroutine those of the thread that waits for it, too: a sync
    function that has called it by `async_to_sync`, as Django does with async receivers of signals. The event loop has a
    thread of its own, so there Django shows none of that function's transactions.
    """
    own: list[Any] = list(connections.all(initialized_only=True))
    if _get_running_loop() is None:
        return own
    executor: Any = getattr(AsyncToSync.executors, "current", None)
    while executor is not None and executor._broken:  # its function no longer waits
        executor = getattr(executor, "_old_executor", None)
    if executor is None:
        return own
    waiting = executor._work_thread.ident
    others = [connection for reference in _connected.valuerefs() if (connection := reference()) is not None]
    return [*own, *(each for each in others if each._thread_ident == waiting and each not in own)]


def has_begun(connection: Any) -> bool:
    """Whether a transaction is open on a connection, by `atomic`, or by a statement while autocommit is off."""
    if connection.in_atomic_block:
        return True
    if connection.connection is None or connection.autocommit:
        return False
    if connection.vendor == "sqlite":
        return bool(connection.connection.in_transaction)
    if connection.vendor == "postgresql":
        return bool(connection.connection.info.transaction_status)  # 0: idle
    return True  # the database does not say


class _AtCommit:
    """A call for when a transaction without autocommit is committed. Django drops it at a rollback, as any other."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call

    def __call__(self) -> None:
        self.call()


def on_commit(connection: Any, call: Callable[[], None]) -> None:
    """
    Call it when the connection's open transaction is committed.

    With autocommit off, Django's own `on_commit` refuses, or keeps the call until autocommit is on again, which may be
    never. Raises TransactionManagementError outside `atomic` with autocommit off, on a database that does not say
    whether a transaction is open.
    """
    if connection.in_atomic_block and connection.commit_on_exit:
        connection.on_commit(call)
        return
    if not connection.in_atomic_block and connection.vendor not in ("sqlite", "postgresql"):
        raise TransactionManagementError(
            f"Autocommit is off on the database {connection.alias!r}, which does not say if a transaction is open, "
            "so no job can wait for its commit. Enqueue the job inside transaction.atomic()."
        )
    connection.run_on_commit.append((set(connection.savepoint_ids), _AtCommit(call), False))
    if "commit" not in vars(connection):
        connection.commit = partial(_commit, connection)


def _commit(connection: Any) -> None:
    type(connection).commit(connection)
    calls = [entry for entry in connection.run_on_commit if isinstance(entry[1], _AtCommit)]
    connection.run_on_commit = [entry for entry in connection.run_on_commit if not isinstance(entry[1], _AtCommit)]
    for _, call, _ in calls:
        call()


# --- waits that a job can be interrupted in --------------------------------------------------

SLICE = 0.1  # seconds of a wait in a worker: no interrupt reaches a thread inside a lock or a sleep

# Raises the interrupt that is due in the calling thread. A worker sets it.
raise_interrupt: Callable[[], None] | None = None


def slices(seconds: float) -> Iterator[float]:
    """Part a wait into slices, and yield the seconds of each. Between them, the interrupt of the job is raised."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if raise_interrupt is None:
            yield left
        else:
            raise_interrupt()
            yield min(left, SLICE)


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
