"""The threads that run jobs."""

import threading
import time
from collections.abc import Callable
from math import inf

from jobs.attempts import failures
from jobs.attempts.claim import Claim
from jobs.attempts.current import Attempt
from jobs.attempts.interrupt import Interruptible
from jobs.attempts.outcomes import Dead, Finished, MakeAttempt, Retried
from jobs.record import display
from jobs.worker.fetch import Fetch
from jobs.worker.scoreboard import Board
from jobs.worker.surroundings import Surroundings

FAILURES = (Dead, Retried)


class JobThread(threading.Thread):
    """
    1. takes a claim; 2. puts it on the board; 3. makes the attempt in a context of its own; 4. gives its database
    connections back; 5. hands the outcome over, which the next `take` of any thread commits. Ends when `take` returns
    None.
    """

    def __init__(
        self, number: int, fetch: Fetch, board: Board, attempt: MakeAttempt, ended: Callable[[], object]
    ) -> None:
        super().__init__(name=f"jobs-{number}", daemon=True)
        self.claim: Claim | None = None  # the claim that it runs now
        self.interruptible = Interruptible()
        self.finished = self.failed = 0
        self.working = 0.0  # seconds
        self.number = number  # its place on the board
        self._fetch, self._board, self._attempt = fetch, board, attempt
        self._ended = ended

    @property
    def native_ids(self) -> list[int]:
        """The kernel's number of the thread."""
        return [self.native_id or 0]

    def run(self) -> None:
        try:
            surroundings = Surroundings()
            try:
                self._work(surroundings)
            finally:
                surroundings.close()
        finally:  # the main thread notices a thread that has died otherwise
            self._ended()

    def _work(self, surroundings: Surroundings) -> None:
        fetch, pace, board, number = self._fetch, self._fetch.pace, self._board, self.number
        while (claim := fetch.take()) is not None:
            claim.started = started = time.monotonic()
            claim.deadline = inf if claim.limit is None else started + claim.limit
            board.start(number, started, claim.deadline, claim.id, claim.execution, claim.queue)
            self.claim = claim
            try:
                outcome, command = surroundings.run(self._attempt, claim, self.interruptible)
            except BaseException as error:  # an attempt raises nothing; but what is around it might
                outcome, command = failures.undecided_by(error, Attempt(claim)), display.UNREADABLE
            self.claim = None
            board.end(number)
            try:
                surroundings.restore(claim)
            finally:  # what is done is done, whatever becomes of this thread
                seconds = time.monotonic() - started
                fetch.commits.add(claim, outcome, command, seconds)
            self.working += seconds
            pace.add(seconds)
            if isinstance(outcome, Finished):
                self.finished += 1
            elif isinstance(outcome, FAILURES):
                self.failed += 1


def allow(board: Board, number: int, claim: Claim, seconds: float | None) -> None:
    """Let the claim that runs at that place go on for so many seconds from now; without a limit if None, 0 or less."""
    claim.deadline = time.monotonic() + seconds if seconds is not None and seconds > 0 else inf
    board.start(number, claim.started, claim.deadline, claim.id, claim.execution, claim.queue)
