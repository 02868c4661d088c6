"""
One attempt as a task of a worker's event loop.

It is interrupted as a thread is, with one difference: no exception is raised at a safe point of the coroutine, because
the loop's thread runs many of them. Its task is cancelled instead, again each second. While the task waits for a
function that `sync_to_async` runs in a lent thread, the interrupt goes to that thread first: the database is asked to
stop, and the error reaches the coroutine from there.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Protocol

from jobs.attempts.claim import Claim
from jobs.attempts.interrupt import CONSEQUENCES, Interrupt, Interruptible, JobInterrupt

PAUSE = 0.01  # seconds between checks for what a call has left behind


class Lent(Protocol):
    """A thread that runs a function for a task, until the function returns."""

    interruptible: Interruptible

    @property
    def native_id(self) -> int | None:
        """The kernel's number of the thread."""


class LoopTask:
    """One claim on the event loop, from its start until its outcome is handed over."""

    def __init__(self, claim: Claim, number: int) -> None:
        """`number`: its place on the board."""
        self.claim: Claim | None = claim  # None once it has ended
        self.number = number
        self.task: asyncio.Task[None] | None = None
        self.children: set[asyncio.Task[Any]] = set()  # tasks that the command has created, with those of libraries
        self.lent: set[Lent] = set()
        self.is_dropped = False  # whether it is cancelled because the process ends
        self.is_armed = False  # whether `call` runs: only that may be interrupted
        self._interrupt: Interrupt | None = None

    @property
    def interruptible(self) -> "LoopTask":
        return self

    @property
    def native_ids(self) -> list[int]:
        """The kernel's numbers of the threads that run functions for it."""
        return [each.native_id or 0 for each in list(self.lent)]

    async def run(self, claim: object, call: Callable[[], Awaitable[Any]]) -> Any:
        """
        Await `call()`; from its start to its end `interrupt(claim, ...)` interrupts it. The end is when nothing that it
        has begun runs any more: tasks that it has left are cancelled, as `asyncio.run` does, and lent threads return.

        Returns and raises what `call` does. If an interrupt was sent and led to another error, raises the interrupt,
        with that error as its cause.
        """
        self.is_armed, result, error = True, None, None
        try:
            result = await call()
        except BaseException as raised:
            error = raised
        try:
            if self.children or self.lent:
                await self._leave_nothing()
            self.is_armed = False
            interrupt, self._interrupt = self._interrupt, None
            if interrupt is not None and not isinstance(error, JobInterrupt):
                is_sent = interrupt.was_sent and isinstance(error, CONSEQUENCES)
                if interrupt.decides if error is None else is_sent:
                    raise interrupt.kind from error
            if error is not None:
                raise error
            return result
        finally:
            del error  # its traceback refers to this frame

    async def _leave_nothing(self) -> None:
        cancelled: set[asyncio.Task[Any]] = set()
        while (left := {each for each in self.children if not each.done()}) or self.lent:
            for each in left - cancelled:
                each.cancel()
            cancelled |= left
            try:
                await (asyncio.wait(left, timeout=PAUSE) if left else asyncio.sleep(PAUSE))
            except asyncio.CancelledError:
                cancelled.clear()  # the interrupt is for them now
        self.children.clear()

    # --- for the main thread ---------------------------------------------------------------------

    def interrupt(self, claim: object, kind: type[JobInterrupt]) -> bool:
        """
        Interrupt the call, if it runs. Call it again every few milliseconds until the call has ended. Returns True the
        first time.
        """
        if self.claim is not claim or not self.is_armed:
            return False
        is_first = self._interrupt is None
        interrupt = self._interrupt = self._interrupt or Interrupt(kind)
        if lent := list(self.lent):
            for each in lent:
                each.interruptible.interrupt(claim, kind)
        elif interrupt.is_due:
            interrupt.sent_at = time.monotonic()
            self._on_loop(self._cancel_if_armed)
        return is_first

    def decide(self, claim: object) -> None:
        """Count the attempt as interrupted, whatever the call returns: what it waited for is taken away."""
        if self.claim is claim and self._interrupt is not None:
            self._interrupt.decides = True

    def drop(self) -> None:
        """Cancel the task, whatever it does, because the process ends: its job goes back to its queue."""
        self.is_dropped = True
        self._on_loop(self._cancel)

    def _on_loop(self, call: Callable[[], object]) -> None:
        if self.task is not None:
            with contextlib.suppress(RuntimeError):  # it is closed
                self.task.get_loop().call_soon_threadsafe(call)

    def _cancel_if_armed(self) -> None:
        if self.is_armed:  # the call may have ended meanwhile, and what follows it must not be cancelled
            self._cancel()

    def _cancel(self) -> None:
        assert self.task is not None  # noqa: S101
        self.task.cancel()


running: ContextVar[LoopTask | None] = ContextVar("jobs_loop_task", default=None)
