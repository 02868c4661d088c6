"""What a child has for async commands: the event loop, the thread that fetches for it, and its watchdog."""

import gc
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from jobs import execution
from jobs.attempts.claim import Claim
from jobs.attempts.loop_task import LoopTask
from jobs.attempts.outcomes import Outcome
from jobs.errors import JobsError
from jobs.safe_logging import safe_logger
from jobs.worker.attempt import task_maker
from jobs.worker.both import FetchForBoth
from jobs.worker.loop import Loop
from jobs.worker.scoreboard import Board
from jobs.worker.threads import JobThread
from jobs.worker.watchdog import BLOCKED, STANDS_STILL, Watchdog

logger = safe_logger("jobs.worker")

YOUNG = 10_000  # new objects after which Python's garbage collector looks at these
CANCELLED = 2.0  # seconds that tasks have to end once they are cancelled, because the process ends
LIFESPAN = 3.0  # seconds that the project's lifespan has to end after that


class LoopSide:
    """The child's main thread calls every method."""

    def __init__(self, board: Board, wake: Callable[[], object]) -> None:
        """`wake()` wakes the main thread."""
        self.failure: JobsError | None = None  # if any of its tasks may have broken the loop: all are suspect
        self._board, self._wake = board, wake
        self.thread = Loop(board, task_maker(), self._done, wake)
        self._watchdog = Watchdog(self.thread, board)
        self._attendant = threading.Thread(target=self._attend, name="jobs-loop-fetch", daemon=True)
        self._fetch: FetchForBoth

    def fetch(self, *args: Any, **options: Any) -> FetchForBoth:
        """Make the Fetch of the threads and of the loop; takes the arguments of Fetch."""
        self._fetch = FetchForBoth(*args, tasks=self._board.tasks, start=self.thread.start_tasks, **options)
        return self._fetch

    def serve(self, threads: Iterable[JobThread]) -> None:
        """Have these threads run the coroutines of plain RQ jobs on the loop, and leave it async commands."""
        for thread in threads:
            thread.interruptible.loop = self.thread.run_for

    def begin(self, mind: Callable[[], object]) -> None:
        """Start the loop, and wait until it is in the project's lifespan, calling `mind()`. Raises what that raises."""
        _collect_less_often()
        self.thread.start()
        while not self.thread.wait_until_begun(0.5):
            mind()
        self._attendant.start()

    def tasks(self) -> list[LoopTask]:
        """Return the tasks that run."""
        return list(self.thread.running)

    def is_at_work(self) -> bool:
        """Whether it claims jobs, or has some that have not ended."""
        return self._attendant.is_alive()

    def check(self) -> str:
        """Look after the loop. Returns why the process is to be replaced, or ""."""
        stands_still = self._watchdog.check()
        self._fetch.is_late = self._watchdog.lag > BLOCKED
        if not stands_still:
            return ""
        reason = f"the event loop has been standing still for {self._watchdog.lag:.0f} s"
        if not self.thread.is_alive():
            reason = f"the event loop has ended: {self.thread.error!r}"
        claim = self.thread.blocker()
        if claim is None or claim.execution not in self._fetch.held:
            self.failure = JobsError(reason)
        else:
            seconds = time.monotonic() - claim.started
            outcome, command = execution.blocked(claim, STANDS_STILL)
            self._fetch.commits.add(claim, outcome, command, seconds, has_returned=False)
            self._fetch.flush()
        return reason

    def end(self) -> None:
        """Cancel the tasks that still run, whose jobs go back to their queues, and leave the lifespan."""
        if self.thread.running:
            self.thread.drop()
            until = time.monotonic() + CANCELLED
            while self.thread.running and self.thread.is_alive() and time.monotonic() < until:
                time.sleep(0.02)
        self.thread.leave(LIFESPAN)
        if self.failure is not None:
            self._board.blame_tasks()

    def _attend(self) -> None:
        try:
            self._fetch.attend()
        finally:  # the main thread notices a thread that has died otherwise
            self._wake()

    def _done(self, claim: Claim, outcome: Outcome, command: str, seconds: float) -> None:
        self._fetch.commits.add(claim, outcome, command, seconds)
        self._fetch.stir()


def _collect_less_often() -> None:
    """
    Have Python's garbage collector begin after YOUNG new objects instead of its 700, unless the project has set more.
    Hundreds of tasks that await hold that many: it would look at them again and again, and find no garbage.
    """
    first, *older = gc.get_threshold()
    if 0 < first < YOUNG:  # 0: the project has switched it off
        gc.set_threshold(YOUNG, *older)
