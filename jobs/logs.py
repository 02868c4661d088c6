"""
What is logged of attempts: a job's own lines, kept for its page; and its id, on every line logged while it runs.
"""

import logging
from collections import deque
from collections.abc import Collection
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any

from jobs.record import display

if TYPE_CHECKING:
    from jobs.attempts.claim import Claim

LINES = 200  # of an attempt, the last ones
LINE_LENGTH = 1_000  # characters of a line


class Attempt:
    """One attempt, as log lines name it. `lines` fills with what is logged meanwhile."""

    __slots__ = ("claim", "command", "lines", "outer")

    def __init__(self, claim: "Claim") -> None:
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


_attempt: ContextVar[Attempt | None] = ContextVar("jobs_attempt", default=None)


def begin(claim: "Claim") -> Attempt:
    """From here on, lines logged in this context, and threads and tasks begun in it, belong to this attempt."""
    attempt = Attempt(claim)
    attempt.outer = _attempt.set(attempt)
    return attempt


def end(attempt: Attempt) -> None:
    """They no longer do."""
    _attempt.reset(attempt.outer)


class AttemptLog(logging.Handler):
    """Put on the root logger by a worker process: notes what passes the loggers' levels while an attempt runs."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        attempt = _attempt.get()
        if attempt is not None and record.name != "jobs":  # the worker's own lines tell what the job's page tells
            try:
                attempt.note(self.format(record)[:LINE_LENGTH])
            except Exception:
                self.handleError(record)


class JobFilter(logging.Filter):
    """
    Put on a project's handlers: gives every record `job_id`, `command`, `queue` and `attempt`, None outside an attempt,
    and `job`, which is " [job <id>]" or nothing, for a plain format.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        attempt = _attempt.get()
        known = attempt.fields() if attempt is not None else dict.fromkeys(("job_id", "command", "queue", "attempt"))
        for name, value in known.items():
            if not hasattr(record, name):
                setattr(record, name, value)
        named = record.job_id and record.job_id not in record.getMessage()  # type: ignore[attr-defined]
        record.job = f" [job {record.job_id}]" if named else ""  # type: ignore[attr-defined]
        return True
