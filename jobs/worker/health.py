"""
Whether a worker is alive, and whether it is ready to take work: two separate questions.

A worker that waits for Redis is alive but not ready: a restart would not help. A worker whose children stall is not
alive.
"""

import time
from collections.abc import Iterable
from math import inf

from jobs.worker import stall
from jobs.worker.process import Process

BREAK = 10.0  # seconds between two answers of Redis after which everything may have been suspended, this process, too


class Health:
    """The health of the parent and its children, in words. Times are monotonic seconds."""

    def __init__(self, children: Iterable[Process], wanted: int) -> None:
        """`wanted`: how many children there should be."""
        self.stopping = False
        self.answering_since = inf  # since when Redis has answered without a break; inf: it does not answer
        self._children, self._wanted = children, wanted
        self._answered_at = self._beaten_at = 0.0

    def answered(self) -> None:
        """Record that Redis answered the parent."""
        now = time.monotonic()
        if self.answering_since == inf or now - self._answered_at > BREAK:
            self.answering_since = now
        self._answered_at = now

    def unanswered(self) -> None:
        """Record that Redis did not answer the parent, or refused."""
        self.answering_since = inf

    def beaten(self) -> None:
        """Record that a beat was written for every running child."""
        self._beaten_at = time.monotonic()

    def problems(self) -> list[str]:
        """Return the problems of the worker itself. An outage of Redis is none of them: the worker waits."""
        now = time.monotonic()
        return [f"{each.name} {wrong}" for each in self._children if (wrong := self._problem(each, now))]

    def hindrances(self) -> list[str]:
        """Return the reasons why the worker can take no work now, including its problems."""
        reasons = self.problems()
        if self.stopping:
            return [*reasons, "it is stopping"]
        silent = time.monotonic() - self._beaten_at
        taking = sum(each.board.turned() > 0 and not each.board.is_retiring for each in self._children)
        if self.answering_since == inf:
            reasons.append("Redis does not answer, or refuses")
        elif self._beaten_at and silent > stall.STALLED:
            reasons.append(f"no beat could be written for {silent:.0f} s")
        if taking < self._wanted:
            reasons.append(f"{taking} of {self._wanted} processes take jobs")
        return reasons

    def summary(self) -> str:
        """Return one line for the process's status."""
        boards = [each.board for each in self._children]
        busy = sum(len(board.running(tasks=False)) for board in boards)
        lines = [f"{busy} of {sum(board.threads for board in boards)} threads busy"]
        if places := sum(board.tasks for board in boards):
            lines.append(f"{sum(len(board.running(tasks=True)) for board in boards)} of {places} tasks on event loops")
        return "; ".join([*self.hindrances(), *lines])

    def _problem(self, process: Process, now: float) -> str:
        if process.stopped_at is not None:
            stopped = now - process.stopped_at
            return f"has been stopped by a signal for {stopped:.0f} s" if stopped > stall.STALLED else ""
        if self.stopping:  # separate time limits end them
            return ""
        since = max(process.started_at, self.answering_since)
        return stall.stall(process.board, now, since=since, limit=stall.STALLED)
