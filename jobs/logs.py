"""What `call` logged, kept for the job's page: the last lines of each attempt, committed when it failed."""

import logging
from collections import deque
from contextvars import ContextVar

LINES = 200  # of an attempt, the last ones
LINE_LENGTH = 1_000  # characters of a line

_lines: ContextVar[deque[str] | None] = ContextVar("jobs_attempt_log", default=None)


class AttemptLog(logging.Handler):
    """Put on the root logger by a worker process: notes what passes the loggers' levels while an attempt runs."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        lines = _lines.get()
        if lines is not None and record.name != "jobs":  # the worker's own lines tell what the job's page tells
            try:
                lines.append(self.format(record)[:LINE_LENGTH])
            except Exception:
                self.handleError(record)


def begin() -> deque[str]:
    """Note this attempt's lines from here on; what comes back fills as they are logged, in other threads' parts too."""
    lines: deque[str] = deque(maxlen=LINES)
    _lines.set(lines)
    return lines


def end() -> None:
    """Note no more."""
    _lines.set(None)
