"""The attempt that runs in a context: how log lines name it, and the lines that were logged meanwhile."""

from collections import deque
from collections.abc import Collection
from contextvars import ContextVar, Token
from typing import Any

from jobs.attempts.claim import Claim
from jobs.record import display

LINES = 200  # of an attempt, the last ones


class Attempt:
    """One attempt, as log lines name it. `lines` fills with what is logged meanwhile."""

    __slots__ = ("claim", "command", "lines", "outer")

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.command = display.UNREADABLE
        self.lines: Collection[str] = ()  # made when a line comes: most attempts log nothing
        self.outer: Token[Attempt | None]

    def note(self, line: str) -> None:
        """Keep a line, of the last ones."""
        if not isinstance(self.lines, deque):
            self.lines = deque(maxlen=LINES)
        self.lines.append(line)

    @property
    def number(self) -> int:
        """Which attempt at the job this is, interrupted ones counted: 1 for the first."""
        try:
            return 1 + self.claim.progress.attempts + int(self.claim.interruptions or 0)
        except ValueError:  # tampered with: a log line must come out all the same
            return 1

    def fields(self) -> dict[str, Any]:
        """For `extra=` of a log line."""
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
    """The attempt of the calling context; None outside one."""
    return _current.get()


def begin(claim: Claim) -> Attempt:
    """From here on, lines logged in this context, and threads and tasks begun in it, belong to this attempt."""
    attempt = Attempt(claim)
    attempt.outer = _current.set(attempt)
    return attempt


def end(attempt: Attempt) -> None:
    """Ends what `begin` began."""
    _current.reset(attempt.outer)
