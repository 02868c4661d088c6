"""
Interrupting a job in its thread: at its time-out, when it is cancelled, when the worker must leave.

The interrupt is an exception raised asynchronously (PyThreadState_SetAsyncExc), so it comes between two bytecodes: it
may be armed around `call` alone, never while arguments load or an outcome is handed over.
"""

import asyncio
import ctypes
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from asgiref.sync import async_to_sync

from jobs import forks

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exc.argtypes = (ctypes.c_ulong, ctypes.py_object)


class JobInterrupt(BaseException):
    """Raised inside `call`. A BaseException, so that `except Exception` in a command cannot swallow it."""


class TimedOut(JobInterrupt):
    """Raised when the attempt has used up its `timeout`."""


class Stopped(JobInterrupt):
    """Raised when a person, or RQ's stop-job command, stops the job."""


class Interruptible:
    """One worker thread, seen by whoever may interrupt what it runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread = 0
        self._armed: object = None  # the claim that may be interrupted
        self._cancel: Callable[[], object] | None = None  # how, where an exception in the thread would not arrive
        self._sent: type[JobInterrupt] | None = None

    def run(self, claim: object, call: Callable[[], Any]) -> Any:
        """Run `call`; from its start to its end `interrupt(claim, ...)` raises inside it."""
        try:
            try:
                self.arm(claim)
                return call()
            finally:
                self.disarm()
        except JobInterrupt:
            self.disarm()  # the interrupt may have come in the middle of disarming
            raise

    def run_async(self, claim: object, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """
        `run` for a coroutine function. asgiref runs its loop in another thread while ours waits for a lock, where no
        exception would reach it: the interrupt cancels the task instead, at its next `await`.
        """

        async def interruptible() -> Any:
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            assert task is not None  # noqa: S101
            self.arm(claim, lambda: loop.call_soon_threadsafe(task.cancel))
            try:
                return await call()
            finally:
                self.disarm()

        try:
            return async_to_sync(interruptible)()
        except asyncio.CancelledError:
            if self._sent is not None:
                raise self._sent from None
            raise

    def arm(self, claim: object, cancel: Callable[[], object] | None = None) -> None:
        """From here on `interrupt(claim, ...)` raises in the calling thread, or calls `cancel`."""
        with self._lock:
            self._thread, self._armed, self._cancel, self._sent = threading.get_ident(), claim, cancel, None

    def disarm(self) -> None:
        """From here on nothing is raised any more. Does not return in a process that the job has forked."""
        forks.leave_if_forked()  # before the lock, which another thread may have held at the fork
        with self._lock:
            self._armed = None
            if self._sent and self._cancel is None:
                # One that is on its way arrives here. To take it back (SetAsyncExc with NULL) would leave the "eval
                # breaker" of CPython 3.11 set for good, and then no call in a thread that is profiled ever begins.
                try:  # not with `suppress`: it would arrive in the calls which that makes
                    for _ in range(2):
                        pass
                except JobInterrupt:
                    pass

    def interrupt(self, claim: object, interrupt: type[JobInterrupt]) -> bool:
        """Raise in the thread, if that claim is what it is running; True the first time it was sent."""
        with self._lock:
            if self._armed is not claim or self._sent:
                return False
            self._sent = interrupt
            if self._cancel is not None:
                self._cancel()
            else:
                _set_async_exc(self._thread, interrupt)
            return True
