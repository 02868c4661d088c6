"""
The event loop of a worker process, in a thread of its own: it runs async commands as tasks, many at once.

A task does what a job's thread does: it puts its claim on the board, makes the attempt in a context of its own, hands
the outcome over, and has it committed. What blocks, such as the ORM, runs in threads that are lent for one call each.
"""

import asyncio
import contextlib
import contextvars
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from math import inf
from typing import Any

from asgiref.sync import AsyncToSync

from jobs import conf
from jobs.attempts import failures
from jobs.attempts.claim import Claim
from jobs.attempts.current import Attempt
from jobs.attempts.interrupt import JobInterrupt
from jobs.attempts.loop_task import LoopTask, running
from jobs.attempts.outcomes import Ended, Finished, GivenBack, Outcome
from jobs.record import display
from jobs.safe_logging import safe_logger
from jobs.worker.at_work import AtWork, Noted
from jobs.worker.lent import LentThreads
from jobs.worker.scoreboard import Board
from jobs.worker.surroundings import new_context, share_caches
from jobs.worker.threads import FAILURES

try:
    from uvloop import new_event_loop
except ImportError:  # the extra is not installed
    from asyncio import new_event_loop  # type: ignore[assignment]  # of a narrower type there

logger = safe_logger("jobs.worker")

MakeTask = Callable[[Claim, LoopTask], Coroutine[Any, Any, Ended]]  # runs a claim in the calling task; raises nothing
Done = Callable[[Claim, Outcome, str, float], object]  # hands an outcome over, with the command's name and seconds


class Loop(threading.Thread):
    """
    1. enters the project's lifespan; 2. runs a task for each claim that it is given; 3. leaves the lifespan, once
    `leave` is called.
    """

    def __init__(self, board: Board, attempt: MakeTask, done: Done, ended: Callable[[], object]) -> None:
        """`done`: as Done, called on the loop; `ended()` is called when the thread ends, in whatever way."""
        super().__init__(name="jobs-loop", daemon=True)
        self.loop: asyncio.AbstractEventLoop = new_event_loop()
        self.running: set[LoopTask] = set()  # the tasks that have a claim
        self.at_work = AtWork(board)
        self.finished = self.failed = 0
        self.working = 0.0  # seconds, of all tasks together
        self.error: BaseException | None = None  # why the lifespan cannot be entered, or the loop has ended
        self._board, self._attempt, self._done, self._ended = board, attempt, done, ended
        self._free = list(reversed(range(board.threads, board.threads + board.tasks)))  # places on the board
        self._is_begun = threading.Event()
        self._leaves = asyncio.Event()
        self._drops = False  # whether what ends now goes back to its queue

    # --- for other threads -----------------------------------------------------------------------

    def wait_until_begun(self, seconds: float) -> bool:
        """Wait at most that long. Returns whether the loop runs tasks. Raises the error of the project's lifespan."""
        is_begun = self._is_begun.wait(seconds)
        if self.error is not None:
            raise self.error
        return is_begun

    def start_tasks(self, claims: list[Claim]) -> None:
        """Start a task for each claim. Those that a loop no longer takes stay held, and go back with the process."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._start, claims)

    def run_for(self, claim: Claim, call: Callable[[], Coroutine[Any, Any, Any]]) -> "Waiting":
        """Begin to run a coroutine function as a task, in the caller's context, for a thread that waits for it."""
        return Waiting(self, claim, call)

    def blocker(self) -> Claim | None:
        """Return the claim whose code the loop's thread runs now; None if it is none of a command's."""
        task = self.at_work.task
        return task.claim if task is not None else None

    def drop(self) -> None:
        """Cancel every task, and start none. The jobs of those that end by it go back to their queues."""
        self._drops = True
        for task in list(self.running):
            task.drop()

    def leave(self, seconds: float) -> None:
        """Leave the lifespan, and end; wait at most that long."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._leaves.set)
        self.join(seconds)
        if self.is_alive():
            logger.warning("the event loop has not ended after %g s; the process ends without it", seconds)

    # --- in its thread ---------------------------------------------------------------------------

    def run(self) -> None:
        lent = LentThreads(max(1, self._board.threads), self._board)
        self.loop.set_default_executor(lent)
        AsyncToSync.loop_thread_executors[self.loop] = lent  # type: ignore[assignment]  # any executor does
        self.loop.set_task_factory(self._new_task)
        try:
            self._context = new_context()
            self._context.run(share_caches)
            life = asyncio.Task(self._live(), loop=self.loop, context=self._context)
            life.add_done_callback(lambda _: self.loop.stop())
            while not life.done():
                try:
                    self.loop.run_forever()
                except (SystemExit, KeyboardInterrupt):  # raised by a task that a command has created
                    logger.warning("a task on the event loop wanted to end the process; it goes on", exc_info=True)
            life.result()
        except BaseException as error:
            logger.exception("the event loop has ended")
            self.error = error
        finally:
            self._is_begun.set()
            del AsyncToSync.loop_thread_executors[self.loop]
            lent.close()
            with contextlib.suppress(Exception):  # a command has broken it
                self.loop.close()
            self._ended()

    async def _live(self) -> None:
        async with conf.lifespan()():
            self._is_begun.set()
            await self._leaves.wait()

    def _new_task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        """Note for which command a task is created, by its own code or a library's."""
        context = options.get("context")
        owner = running.get() if context is None else context.get(running)
        if owner is None or owner.claim is None:
            return asyncio.Task(coroutine, loop=loop, **options)
        created: asyncio.Task[Any] = asyncio.Task(Noted(coroutine, owner, self.at_work), loop=loop, **options)
        owner.children.add(created)
        return created

    def _start(self, claims: list[Claim]) -> None:
        for claim in claims:
            if self._drops or not self._free:
                self._done(claim, GivenBack(), "", 0.0)
                continue
            task = LoopTask(claim, self._free.pop())
            claim.started = time.monotonic()
            claim.deadline = inf if claim.limit is None else claim.started + claim.limit
            self._board.start(task.number, claim.started, claim.deadline, claim.id, claim.execution, claim.queue)
            self.running.add(task)
            steps = Noted(self._perform(claim, task), task, self.at_work)
            task.task = asyncio.Task(steps, loop=self.loop, context=self._context.copy())

    async def _perform(self, claim: Claim, task: LoopTask) -> None:
        running.set(task)
        try:
            outcome, command = await self._attempt(claim, task)
        except BaseException as error:  # an attempt raises nothing, unless the task is cancelled around it
            outcome, command = failures.undecided_by(error, Attempt(claim)), display.UNREADABLE
        task.claim = None
        self.running.discard(task)
        if task.is_dropped and isinstance(outcome, GivenBack):
            return
        self._board.end(task.number)
        self._free.append(task.number)
        seconds = time.monotonic() - claim.started
        self.working += seconds
        self.finished += isinstance(outcome, Finished)
        self.failed += isinstance(outcome, FAILURES)
        self._done(claim, outcome, command, seconds)


class Waiting:
    """A coroutine of a plain RQ job on the loop, for the job's thread, which waits."""

    def __init__(self, loop: Loop, claim: Claim, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._claim, self._task, self._ended = claim, LoopTask(claim, -1), Future[Any]()
        context = contextvars.copy_context()

        def start() -> None:
            steps = Noted(self._perform(call), self._task, loop.at_work)
            self._task.task = asyncio.Task(steps, loop=loop.loop, context=context)

        loop.loop.call_soon_threadsafe(start)

    async def _perform(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        running.set(self._task)
        try:
            self._ended.set_result(await self._task.run(self._claim, call))
        except BaseException as error:
            self._ended.set_exception(error)
        self._task.claim = None

    def interrupt(self, kind: type[JobInterrupt]) -> None:
        """Interrupt it, as `LoopTask.interrupt` does."""
        self._task.interrupt(self._claim, kind)

    def result(self) -> Any:
        """Wait for its end, and return or raise what it does."""
        return self._ended.result()
