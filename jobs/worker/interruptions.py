"""
Interrupts a child's threads whose job has timed out or is to stop. A thread that does not return is given up.
"""

import faulthandler
import sys
import time
from collections.abc import Callable, Iterable, Sequence

from jobs import execution
from jobs.attempts.claim import Claim
from jobs.attempts.interrupt import JobInterrupt, Stopped, TimedOut
from jobs.attempts.loop_task import LoopTask
from jobs.safe_logging import safe_logger
from jobs.worker.fetch import Fetch
from jobs.worker.scoreboard import Board
from jobs.worker.subprocesses import kill_started_by
from jobs.worker.threads import JobThread

logger = safe_logger("jobs.worker")

INTERRUPT_GRACE = 30  # seconds that an interrupted thread has to return
FREED = 5  # seconds more, after the subprocesses that it may wait for were killed


class Interruptions:
    """The interrupts of one child. Its main thread calls `check` every few milliseconds while one `is_pending`."""

    def __init__(self, fetch: Fetch, board: Board, running: Callable[[], Sequence[JobThread | LoopTask]]) -> None:
        """`running()`: the threads, and the tasks of the event loop."""
        self.is_pending = False  # whether an interrupt waits for a safe point
        self.lost: set[JobThread | LoopTask] = set()  # threads and tasks that did not return
        self._fetch, self._board, self._running = fetch, board, running
        self._to_stop: dict[Claim, float] = {}  # since when, in monotonic seconds
        self._served: set[Claim] = set()  # claims whose call has ended: a stop was meant for that, not for a callback
        self._freed: dict[Claim, float] = {}  # claims whose subprocesses were killed, and until when they have time

    def stop(self, claims: Iterable[Claim]) -> None:
        """Interrupt these claims, too: their jobs were cancelled or stopped."""
        for claim in claims:
            self._to_stop.setdefault(claim, time.monotonic())

    def serve(self, claim: Claim) -> None:
        """Note that the claim's call has ended, so that a stop does not reach its callbacks. Any thread may call it."""
        self._served.add(claim)

    def check(self) -> str:
        """Interrupt the threads that are due. Returns why the process should retire, or ""."""
        now, reason = time.monotonic(), ""
        # In place, because a job's thread may add to it meanwhile.
        self._served.difference_update([each for each in list(self._served) if each.execution not in self._fetch.held])
        self._to_stop = {
            claim: since
            for claim, since in self._to_stop.items()
            if claim.execution in self._fetch.held and claim not in self._served
        }
        self._freed = {claim: until for claim, until in self._freed.items() if claim.execution in self._fetch.held}
        self.is_pending = False
        for thread in self._running():
            claim = thread.claim
            if claim is None or thread in self.lost:
                continue
            kind: type[JobInterrupt] = Stopped if claim in self._to_stop else TimedOut
            since = self._to_stop.get(claim, claim.deadline)
            if now <= since:
                continue
            self.is_pending = True
            if thread.interruptible.interrupt(claim, kind) and kind is TimedOut:
                logger.warning("timed out: job %s, after %.3g s", claim.job_id, since - claim.started)
            if now > self._freed.get(claim, since + INTERRUPT_GRACE) and not self._free(thread, claim, now):
                reason = self._give_up(thread, claim, kind)
        return reason

    def _free(self, thread: JobThread | LoopTask, claim: Claim, now: float) -> bool:
        """Kill the subprocesses that a thread has started, once: it may wait for one. Returns whether it had any."""
        thread.interruptible.decide(claim)  # before it can return
        ids = [] if claim in self._freed else thread.native_ids
        killed = [process for each in ids for process in kill_started_by(each)]
        for process in killed:
            logger.warning(
                "killed process %d, which job %s has started and does not come back from: %s",
                *(process.pid, claim.job_id, process.command),
            )
        if killed:
            self._freed[claim] = now + FREED
        return bool(killed)

    def _give_up(self, thread: JobThread | LoopTask, claim: Claim, kind: type[JobInterrupt]) -> str:
        """Give up a thread in code that no interrupt reaches: commit an outcome of its attempt without it."""
        self.lost.add(thread)
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        outcome, command = execution.given_up(claim, kind)
        self._fetch.commits.add(claim, outcome, command, time.monotonic() - claim.started, has_returned=False)
        self._fetch.flush()
        self._board.end(thread.number)  # the parent must not judge a job that is over
        return f"job {claim.job_id} did not come back {INTERRUPT_GRACE:g} s after its interrupt"
