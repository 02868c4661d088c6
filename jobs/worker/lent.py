"""
Threads that are lent to the tasks of an event loop, for one call of `sync_to_async` each: that of an ORM method such as
`aget`, or of a function of the project.

A lent thread has its own database connections. Before each call they are new, and after it they are given back, as
between two jobs of a thread. So no call meets the session, the transaction or the error of another one, and there are
never more connections than threads.
"""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.utils import DatabaseErrorWrapper

from jobs.attempts.claim import Claim, Row
from jobs.attempts.interrupt import Interruptible
from jobs.attempts.loop_task import LoopTask, running
from jobs.errors import ConnectionAcrossCallsError
from jobs.worker.at_work import LOOP, NOBODY
from jobs.worker.scoreboard import Board
from jobs.worker.surroundings import Surroundings

CLOSING = 1.0  # seconds that threads have to return at the end
_NO_CLAIM = Claim(list(Row(b"(no job: of the loop's lifespan)", b"", b"", b"", b"")))


class LentThreads(ThreadPoolExecutor):
    """At most so many threads. Hand it to asgiref and asyncio as the executor of an event loop."""

    def __init__(self, most: int, board: Board) -> None:
        super().__init__(most, "jobs-lent", initializer=self._begin)
        self._here = threading.local()
        self._board, self._numbers = board, itertools.count(LOOP + 1)
        self._number = 0  # of the threads that have begun

    def _begin(self) -> None:
        number = next(self._numbers)
        self._here.thread = _LentThread(partial(self._board.work, number))
        self._number += 1

    def close(self) -> None:
        """Close the database connections of all threads that return soon, and end the threads."""
        all_here = threading.Barrier(self._number) if self._number else None

        def close() -> None:
            self._here.thread.close()
            if all_here is not None:
                with suppress(threading.BrokenBarrierError):  # so that each thread takes one of these calls
                    all_here.wait(CLOSING)

        for _ in range(self._number):
            super().submit(close)
        self.shutdown(wait=False)

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        call = partial(function, *args, **kwargs) if args or kwargs else function
        return super().submit(self._lend, running.get(), call)

    def _lend(self, task: LoopTask | None, call: Callable[[], Any]) -> Any:
        return self._here.thread.run(task, call)


class _LentThread:
    def __init__(self, work: Callable[[int], None]) -> None:
        """`work(place)` shows on the board for which task it works."""
        self._work = work
        self.interruptible = Interruptible()
        self.native_id = threading.current_thread().native_id
        self._surroundings = Surroundings()

    def close(self) -> None:
        """Close its connections."""
        self._surroundings.close()

    def run(self, task: LoopTask | None, call: Callable[[], Any]) -> Any:
        """Make a call for a task, then give the connections back. Raises ConnectionAcrossCallsError, and its errors."""
        claim = task.claim if task is not None else None
        is_of_command = task is not None and task.is_armed  # else the engine's own, which nothing interrupts
        if task is not None:
            task.lent.add(self)
            self._work(task.number)
        try:
            result = self.interruptible.run(claim, call, _own(call)) if is_of_command else call()
            if task is not None:
                _check_transactions()
            return result
        except Exception as error:
            if _is_of_earlier_call(error):
                text = f"The call uses the database connection of an earlier call. {_ADVICE}"
                raise ConnectionAcrossCallsError(text) from error
            raise
        finally:
            self._surroundings.restore(claim or _NO_CLAIM)
            if task is not None:
                task.lent.discard(self)
                self._work(NOBODY)


_ADVICE = (
    "On the event loop each call of sync_to_async, and each async method of the ORM, has a connection of its own. Put "
    "a transaction, an iterator and the settings of a session into one sync function, and call that by sync_to_async."
)


def _check_transactions() -> None:
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:
            raise ConnectionAcrossCallsError(
                f"The call has left a transaction of the database {connection.alias!r} open. {_ADVICE}"
            )


def _is_of_earlier_call(error: BaseException) -> bool:
    """Whether an error, or the one before it, comes from a connection or a cursor that is not this thread's own now."""
    for each in (error, error.__context__):
        trace = each.__traceback__ if each is not None else None
        while trace is not None:
            owner = trace.tb_frame.f_locals.get("self")
            if isinstance(owner, CursorWrapper):
                owner = owner.db
            elif isinstance(owner, DatabaseErrorWrapper):
                owner = owner.wrapper  # type: ignore[attr-defined]
            if isinstance(owner, BaseDatabaseWrapper) and connections[owner.alias] is not owner:
                return True
            trace = trace.tb_next
    return False


def _own(call: Callable[[], Any]) -> Callable[..., Any]:
    """Return the function that asgiref's call stands for, within which an interrupt may be raised."""
    args = getattr(call, "args", ())
    inner = args[-1] if args else call
    return inner if callable(inner) else call
