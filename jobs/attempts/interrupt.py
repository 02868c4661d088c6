"""
Interrupts a job in its thread: at its time-out, when it is cancelled, when the worker must stop.

The interrupt is an exception that is raised at the next safe point (`safe_points`), and only inside `call`: never while
arguments load or an outcome is handed over. A thread that waits for a database gets an ordinary error from it, because
the database is asked to stop. An interrupt that the command swallows is raised again each second. After an interrupt
the attempt's database connections are closed for good, before a hook or the next job could use them.
"""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from math import inf
from types import FrameType
from typing import Any, Protocol

from asgiref.sync import async_to_sync

from jobs.attempts import forks, raising, running_query
from jobs.attempts.safe_points import own_frames
from jobs.runtime import starts_job

RESEND = 1.0  # seconds between two interrupts of one attempt: it may be cleaning up
BLOCKED = 0.1  # seconds without progress after which a thread counts as waiting


class JobInterrupt(BaseException):
    """Raised inside `call`. A BaseException, so that `except Exception` in a command cannot swallow it."""


class TimedOut(JobInterrupt):
    """Raised when the attempt has used up its `timeout`."""


class Stopped(JobInterrupt):
    """Raised when a person, or RQ's stop-job command, stops the job."""


class Interrupt:
    """An interrupt of one attempt, from the first request to the end of the call."""

    def __init__(self, kind: type[JobInterrupt]) -> None:
        self.kind = kind
        self.sent_at = -inf  # monotonic seconds
        self.decides = False  # whether the attempt ends with it even if the call returns
        self.asking: list[threading.Thread] = []  # threads that ask a database to stop
        self.place: tuple[FrameType | None, int] = (None, 0)  # the frame and instruction where the thread was last
        self.place_since = inf  # monotonic seconds

    @property
    def was_sent(self) -> bool:
        return self.sent_at > -inf

    @property
    def is_due(self) -> bool:
        """Whether it may be sent now, for the first time or again."""
        return time.monotonic() - self.sent_at >= RESEND

    def is_blocked(self, frame: FrameType, now: float) -> bool:
        """Whether the thread, now in that frame, has been at the same instruction for BLOCKED seconds."""
        place = (frame, frame.f_lasti)  # kept, so that no other frame can have its address
        if place != self.place:
            self.place, self.place_since = place, now
        return now - self.place_since >= BLOCKED


class OnLoop(Protocol):
    """A coroutine that runs on the worker's event loop."""

    def interrupt(self, kind: type[JobInterrupt]) -> None:
        """Interrupt it: cancel its task, or interrupt the thread that it waits for."""

    def result(self) -> Any:
        """Wait for its end, and return or raise what it does."""


class Interruptible:
    """One worker thread, as the main thread uses it to interrupt the job that it runs."""

    def __init__(self) -> None:
        self.interrupt_now: Interrupt | None = None
        # Begins to run a claim's coroutine function on the worker's event loop; None: the worker has no loop.
        self.loop: Callable[[Any, Callable[[], Coroutine[Any, Any, Any]]], OnLoop] | None = None
        self._lock = threading.Lock()
        self._home = self._thread = 0  # the worker thread; the thread that runs the call, perhaps that of an event loop
        self._state = 0  # of the latter, for `raising`
        self._armed: object = None  # the claim that may be interrupted
        self._call: Callable[[], Any] = _nothing
        self._cancel: Callable[[], object] | None = None  # cancels the task of a coroutine

    @starts_job
    def run(self, claim: object, call: Callable[[], Any], own: Callable[..., Any] | None = None) -> Any:
        """
        Run `call`; from its start to its end `interrupt(claim, ...)` interrupts it. `own`: the job's function, where
        `call` is a library's that calls it.

        Returns and raises what `call` does. If an interrupt was sent and led to another error, raises the interrupt,
        with that error as its cause.
        """
        try:
            try:
                self.arm(claim, own or call)
                result = call()
            finally:
                self.disarm()
        except BaseException as error:
            self._settle(error)
            raise
        if self.interrupt_now is not None:
            self._settle(None)
        return result

    def run_async(self, claim: object, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """`run` for a coroutine function, in the event loop that asgiref makes in a thread of its own."""
        return self._run_loop(claim, call, lambda main: async_to_sync(main)())

    def run_in_loop(self, claim: object, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """`run` for a coroutine function: on the worker's event loop, or in one in this thread, as RQ runs it."""
        if self.loop is not None:
            return self._wait_for(claim, call, self.loop(claim, call))
        return self._run_loop(claim, call, lambda main: asyncio.run(main()))

    def _run_loop(
        self,
        claim: object,
        call: Callable[[], Coroutine[Any, Any, Any]],
        run: Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any],
    ) -> Any:
        """
        Run a coroutine function by `run`. While it awaits, no exception can be raised at a safe point. Its task is
        cancelled instead, which takes effect at once.
        """
        home = threading.get_ident()

        @starts_job
        async def interruptible() -> Any:
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            assert task is not None  # noqa: S101
            self.arm(claim, call, lambda: loop.call_soon_threadsafe(task.cancel), home)
            try:
                return await call()
            finally:
                self.disarm()

        try:
            result = run(interruptible)
        except BaseException as error:
            self._settle(error)
            raise
        self._settle(None)
        return result

    def _wait_for(self, claim: object, call: Callable[[], Coroutine[Any, Any, Any]], running: OnLoop) -> Any:
        def cancel() -> None:
            assert self.interrupt_now is not None  # noqa: S101
            running.interrupt(self.interrupt_now.kind)

        try:
            try:
                self.arm(claim, call, cancel)
                result = running.result()
            finally:
                self.disarm()
        except BaseException as error:
            self._settle(error)
            raise
        self._settle(None)
        return result

    def arm(
        self, claim: object, call: Callable[..., Any], cancel: Callable[[], object] | None = None, home: int = 0
    ) -> None:
        """
        Allow `interrupt(claim, ...)` from here on to interrupt the calling thread while it runs `call`, a function of
        the job's own. `cancel` cancels the task of a coroutine; `home` is the thread of its synchronous parts.
        """
        with self._lock:
            thread = threading.get_ident()
            if thread != self._thread or cancel is not None:  # a loop's thread may have the number of an earlier one
                self._thread, self._state = thread, raising.thread_state()
            self._home, self._armed, self._call, self._cancel = home or thread, claim, call, cancel

    def disarm(self) -> None:
        """Allow no interrupt from here on. Does not return in a process that the job has forked."""
        forks.leave_if_forked()  # before the lock, which another thread may have held at the fork
        with self._lock:
            self._armed = self._cancel = None
            if self.interrupt_now is not None:
                raising.let_go(self._thread)

    def interrupt(self, claim: object, kind: type[JobInterrupt]) -> bool:
        """
        Interrupt the call as soon as it is safe, if the thread runs that claim. Call it again every few milliseconds
        until the call has ended. Returns True the first time.
        """
        with self._lock:
            if self._armed is not claim:
                return False
            is_first = self.interrupt_now is None
            if self.interrupt_now is None:
                self.interrupt_now = Interrupt(kind)
            if self.interrupt_now.is_due:
                self._send(self.interrupt_now)
            return is_first

    def decide(self, claim: object) -> None:
        """Count the attempt as interrupted, whatever the claim's call returns: what it waited for is taken away."""
        with self._lock:
            if self._armed is claim and self.interrupt_now is not None:
                self.interrupt_now.decides = True

    def _send(self, interrupt: Interrupt) -> None:
        now, frames = time.monotonic(), sys._current_frames()
        own, is_whole = own_frames(frames.get(self._thread), self._call)
        raising.watch(self._thread, self._state, raising.Wanted(self._call, interrupt), own)
        home = frames.get(self._home)
        if home is not None and (raw := running_query.awaited(home)) is not None:
            # Before its task is cancelled: the coroutine would be gone, and its thread wait on.
            if interrupt.is_blocked(home, now):
                interrupt.sent_at = now
                if asking := running_query.ask_to_stop(raw):
                    interrupt.asking.append(asking)
        elif self._cancel is not None and not is_whole:
            interrupt.sent_at = now
            self._cancel()

    # --- after the call, in its thread -------------------------------------------------------------

    def _settle(self, error: BaseException | None) -> None:
        """
        End the interrupt, so that it cannot affect what comes next: wait for requests to databases, and close the
        connections that it may have hit. Raises the interrupt in place of an error that it led to, or of a result that
        does not count.
        """
        interrupt, self.interrupt_now = self.interrupt_now, None
        if interrupt is None or not (interrupt.was_sent or interrupt.decides):
            return
        for thread in interrupt.asking:
            thread.join()
        running_query.discard()
        if raised := _find(error):
            raising.trim(raised)
        if isinstance(error, JobInterrupt):
            return
        if interrupt.decides if error is None else isinstance(error, CONSEQUENCES):
            raise interrupt.kind from error


# Errors that an interrupt may cause on its way out. A requeue that the command asks for is not among them.
CONSEQUENCES = (Exception, asyncio.CancelledError, BaseExceptionGroup, GeneratorExit, KeyboardInterrupt, SystemExit)


def _find(error: BaseException | None) -> JobInterrupt | None:
    """Return the interrupt that an error is, or that led to it; None if there is none."""
    seen: set[int] = set()
    ahead: list[BaseException | None] = [error]
    while ahead:
        each = ahead.pop()
        if each is None or id(each) in seen:
            continue
        if isinstance(each, JobInterrupt):
            return each
        seen.add(id(each))
        ahead += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            ahead += each.exceptions
    return None


def _nothing() -> None: ...
