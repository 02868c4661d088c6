"""
Puts a kit in place of the machine's clock and servers, and removes it again.

Each context (thread, async task) sees its own kit. A context without one, in a thread that the code under test has
started, sees the only kit that is open. The transaction in which Django wraps a TestCase counts as committed: jobs wait
only for transactions that the code under test opens.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from django.db import connections, transaction

from jobs import runtime
from jobs.logs import AttemptLog
from jobs.outbox import hooks
from jobs.steps import checkpoints


class OpenKit(Protocol):
    """The part of an open kit that the patches read."""

    below: "OpenKit | None"  # the kit that this one covers
    memory: Any  # stands in for every server

    strikes: Any  # what the test does to attempts at their checkpoints

    def now(self) -> float:
        """Return the time of the kit's clock, in seconds since the epoch."""


_kits: list[OpenKit] = []  # the open kits
_mine: ContextVar[OpenKit | None] = ContextVar("jobs_testing_kit", default=None)
_lock = threading.Lock()
_log = AttemptLog()
_exit = transaction.Atomic.__exit__
# In a tuple, where tools that freeze the clock do not replace `time.time`.
_SEAMS = (runtime.now, runtime.stand_in, runtime.open_transactions)


def enter(kit: OpenKit) -> None:
    """Make a kit the current one of the calling context, until `leave`."""
    kit.below = _mine.get()
    with _lock:
        if not _kits:
            _set_up()
        _kits.append(kit)
    _mine.set(kit)


def leave(kit: OpenKit) -> None:
    """Remove a kit from the calling context."""
    with _lock:
        _kits.remove(kit)
        if not _kits:
            _take_down()
    if _mine.get() is kit:
        below = kit.below
        while below is not None and below not in _kits:  # it was closed first
            below = below.below
        _mine.set(below)


@contextmanager
def set_aside() -> Iterator[None]:
    """Use the real clock, servers and transactions in every thread, until the block ends."""
    with _lock:
        _take_down()
    try:
        yield
    finally:
        with _lock:
            if _kits:
                _set_up()


def current() -> OpenKit:
    """Return the kit of this context; without one, the only kit that is open. RuntimeError if there is no such kit."""
    if (mine := _mine.get()) is not None:
        return mine
    covered = [kit.below for kit in _kits]
    on_top = [kit for kit in _kits if kit not in covered]
    if len(on_top) == 1:
        return on_top[0]
    raise RuntimeError(
        f"This thread has no testing kit of its own, and {len(on_top)} are open. Open one in it: `with Kit() as jobs:`."
    )


@contextmanager
def showing(kit: OpenKit) -> Iterator[None]:
    """Make this kit the current one, whichever others are open, until the block ends."""
    token = _mine.set(kit)
    try:
        yield
    finally:
        _mine.reset(token)


def is_test_transaction(connection: Any) -> bool:
    """Whether Django has wrapped the test in a transaction of this database."""
    return any(block._from_testcase for block in connection.atomic_blocks)


def _set_up() -> None:
    runtime.now, runtime.stand_in, runtime.open_transactions = _now, _stand_in, _open_in_test
    transaction.Atomic.__exit__ = _exit_and_write  # type: ignore[method-assign]
    checkpoints.struck = _struck
    logging.getLogger().addHandler(_log)


def _take_down() -> None:
    runtime.now, runtime.stand_in, runtime.open_transactions = _SEAMS
    transaction.Atomic.__exit__ = _exit  # type: ignore[method-assign]
    checkpoints.struck = None
    logging.getLogger().removeHandler(_log)


def _now() -> float:
    return current().now() if _kits else time.time()


def _stand_in() -> Any:
    return current().memory


def _struck(claim: Any, step: Any, done: int) -> str:
    return str(current().strikes.at(claim, step, done))


def _open_in_test() -> list[Any]:
    return [connection for connection in runtime.callers_connections() if _is_open(connection)]


def _is_open(connection: Any) -> bool:
    if connection.in_atomic_block:
        return any(not block._from_testcase for block in connection.atomic_blocks)
    return runtime.has_begun(connection)


def _exit_and_write(self: Any, *error: Any) -> None:
    """Write the jobs that wait for the outermost block of the code under test when it ends, as at a commit."""
    _exit(self, *error)
    connection: Any = connections[self.using or "default"]
    if not connection.in_atomic_block or _is_open(connection):
        return
    ours: list[Any] = []
    others: list[Any] = []
    for entry in connection.run_on_commit:  # those of a savepoint that was rolled back are gone by now
        is_ours = getattr(entry[1], "__module__", "") == hooks.__name__
        # Callbacks of jobs enqueued in the test's own transaction before the kit was opened stay there.
        is_of_block = not set(entry[0]) <= set(connection.savepoint_ids)
        (ours if is_ours and is_of_block else others).append(entry)
    connection.run_on_commit = others
    if not connection.needs_rollback:  # a block without a savepoint leaves the rollback to the test's transaction
        for _, write, *_ in ours:
            write()
