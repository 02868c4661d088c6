"""The attempt that runs in the calling context, for log lines, and the lines logged during it."""

from collections import deque
from collections.abc import Collection
from contextvars import ContextVar, Token
from typing import Any

from jobs.attempts.claim import Claim
from jobs.record import display

LINES = 200  # lines that are kept of an attempt: the last ones


class Attempt:
    """One attempt, as log lines name it. `lines` collects what is logged during it."""

    __slots__ = ("claim", "command", "lines", "outer")

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.command = display.UNREADABLE
        self.lines: Collection[str] = ()  # a deque from the first line on: most attempts log nothing
        self.outer: Token[Attempt | None]

    def note(self, line: str) -> None:
        """Keep a line, and drop the oldest of more than LINES."""
        if not isinstance(self.lines, deque):
            self.lines = deque(maxlen=LINES)
        self.lines.append(line)

    @property
    def number(self) -> int:
        """The attempt's number, 1 for the first. Interrupted attempts count."""
        try:
            return 1 + self.claim.progress.attempts + int(self.claim.interruptions or 0)
        except ValueError:  # tampered with: the line must be logged all the same
            return 1

    def fields(self) -> dict[str, Any]:
        """Return the fields for `extra=` of a log line."""
        claim = self.claim
        return {
            "job_id": claim.job_id,
            "command": self.command,
            "queue": claim.queue_name,
            "attempt": self.number,
        }

    def __str__(self) -> str:
        return f"{self.command} (job {self.claim.job_id}, attempt {self.number})"


_current: ContextVar[Attempt | None] = ContextVar("jobs_attempt", default=None)


def current() -> Attempt | None:
    """Return the attempt of the calling context, or None outside one."""
    return _current.get()


def begin(claim: Claim) -> Attempt:
    """Start an attempt: lines logged from here on in this context, its threads and its tasks belong to it."""
    attempt = Attempt(claim)
    attempt.outer = _current.set(attempt)
    return attempt


def end(attempt: Attempt) -> None:
    """End an attempt that `begin` started."""
    _current.reset(attempt.outer)
