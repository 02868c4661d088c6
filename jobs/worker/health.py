"""
Whether a worker is alive, and whether it can take work: two questions with two answers.

A worker that waits for Redis is alive and not ready: to restart it would help nobody. One whose children stand still is
not alive.
"""

import time
from collections.abc import Iterable
from math import inf

from jobs.worker import stall
from jobs.worker.process import Process

BREAK = 10.0  # seconds between two answers of Redis after which everything may have stood still, we too


class Health:
    """What the parent knows of itself and its children, in words. Times are monotonic seconds."""

    def __init__(self, children: Iterable[Process], wanted: int) -> None:
        """`wanted`: how many children there should be."""
        self.stopping = False
        self.answering_since = inf  # since when Redis has answered without a break; inf: it is away
        self._children, self._wanted = children, wanted
        self._answered_at = self._beaten_at = 0.0

    def answered(self) -> None:
        """Redis did what the parent asked of it."""
        now = time.monotonic()
        if self.answering_since == inf or now - self._answered_at > BREAK:
            self.answering_since = now
        self._answered_at = now

    def unanswered(self) -> None:
        """Redis did not answer the parent, or refused."""
        self.answering_since = inf

    def beaten(self) -> None:
        """A beat was written for every child that runs."""
        self._beaten_at = time.monotonic()

    def problems(self) -> list[str]:
        """What is wrong with the worker itself. Not that Redis is away: it waits for that."""
        now = time.monotonic()
        return [f"{each.name} {wrong}" for each in self._children if (wrong := self._problem(each, now))]

    def hindrances(self) -> list[str]:
        """Why it can take no work now, its problems among it."""
        found = self.problems()
        if self.stopping:
            return [*found, "it is stopping"]
        silent = time.monotonic() - self._beaten_at
        taking = sum(each.board.turned() > 0 and not each.board.is_retiring for each in self._children)
        if self.answering_since == inf:
            found.append("Redis does not answer, or refuses")
        elif self._beaten_at and silent > stall.STALLED:
            found.append(f"no beat could be written for {silent:.0f} s")
        if taking < self._wanted:
            found.append(f"{taking} of {self._wanted} processes take jobs")
        return found

    def summary(self) -> str:
        """A line for who looks at the process."""
        boards = [each.board for each in self._children]
        busy = (
            f"{sum(len(board.running()) for board in boards)} of {sum(board.threads for board in boards)} threads busy"
        )
        return "; ".join([*self.hindrances(), busy])

    def _problem(self, process: Process, now: float) -> str:
        if process.stopped_at is not None:
            stopped = now - process.stopped_at
            return f"has been stopped by a signal for {stopped:.0f} s" if stopped > stall.STALLED else ""
        if self.stopping:  # limits of their own see to it that they end
            return ""
        since = max(process.started_at, self.answering_since)
        return stall.stall(process.board, now, since=since, limit=stall.STALLED)
