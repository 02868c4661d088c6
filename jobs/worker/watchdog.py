"""Measures how long an event loop keeps ready tasks waiting, and names the command that blocks it."""

import sys
import time
import traceback

from jobs.attempts.claim import Claim
from jobs.attempts.current import Attempt
from jobs.record import payload
from jobs.safe_logging import safe_logger
from jobs.worker.loop import Loop
from jobs.worker.scoreboard import Board

logger = safe_logger("jobs.worker")

BLOCKED = 0.25  # seconds without an answer of the loop after which the blocking command is logged
AGAIN = 10  # each time the block has lasted so many times longer, it is logged again
STANDS_STILL = 20.0  # seconds without an answer after which the process is replaced
WINDOW = 10.0  # seconds of which the longest lag is shown


class Watchdog:
    """That of one loop. The child's main thread calls `check` every few milliseconds while jobs run."""

    def __init__(self, loop: Loop, board: Board) -> None:
        self.lag = 0.0  # seconds: how long the last question, or the one that is open, has waited
        self._loop, self._board = loop, board
        self._asked = 0.0  # monotonic seconds; 0: nothing is asked
        self._answered = 0.0
        self._log_at = BLOCKED
        self._begun, self._longest, self._longest_before = time.monotonic(), 0.0, 0.0

    def check(self) -> bool:
        """Ask the loop for a sign of life, and look whether it has answered. Returns whether it stands still."""
        now = time.monotonic()
        if self._asked and self._answered >= self._asked:
            self.lag, self._asked, self._log_at = self._answered - self._asked, 0.0, BLOCKED
        elif self._asked:
            self.lag = now - self._asked
            if self.lag > self._log_at:
                self._log_at *= AGAIN
                self._log()
        self._show(now)
        if not self._asked:
            self._asked = now
            try:
                self._loop.loop.call_soon_threadsafe(self._answer)
            except RuntimeError:  # it is closed
                return True
        return self.lag > STANDS_STILL or not self._loop.is_alive()

    def _answer(self) -> None:
        self._answered = time.monotonic()

    def _show(self, now: float) -> None:
        if now - self._begun > WINDOW / 2:
            self._begun, self._longest_before, self._longest = now, self._longest, 0.0
        self._longest = max(self._longest, self.lag)
        self._board.show_lag(max(self._longest, self._longest_before))

    def _log(self) -> None:
        frame, claim = sys._current_frames().get(self._loop.ident or 0), self._loop.blocker()
        stack = "".join(traceback.format_stack(frame)[-15:]) if frame is not None else "(its thread has ended)"
        what, fields = "code of no command", {}
        if claim is not None:
            attempt = named(claim)
            what, fields = str(attempt), attempt.fields()
        message = "the event loop has been blocked for %.2f s by %s. Call what blocks by sync_to_async:\n%s"
        logger.warning(message, self.lag, what, stack, extra=fields)


def named(claim: Claim) -> Attempt:
    """Return an attempt for log lines about a claim, with its command's name."""
    attempt = Attempt(claim)
    try:
        attempt.command = payload.read(claim.data).name
    except Exception:  # a plain RQ job, or an odd one
        attempt.command = "a plain RQ job"
    return attempt
