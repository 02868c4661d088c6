"""Logging of attempts: keeps a job's own lines for its page, and adds its id to every line logged while it runs."""

import logging
from typing import Any

from jobs.attempts.current import current
from jobs.safe_logging import in_a_line, in_lines, traceback_lines

LINE_LENGTH = 1_000  # characters of a line


class SafeFormatter(logging.Formatter):
    """Indents the lines of a message and of a traceback after the first, so that none looks like a line of the log."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        first, *further = super().formatMessage(record).split("\n", 1)
        return "\n".join([in_a_line(first), *map(in_lines, further)])

    def formatException(self, exc_info: Any) -> str:
        return traceback_lines(exc_info)


class AttemptLog(logging.Handler):
    """A worker process's handler on the root logger: keeps lines that pass the loggers' levels during an attempt."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(SafeFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        if logging.lastResort and record.levelno >= logging.lastResort.level and _is_alone(record.name):
            logging.lastResort.handle(record)  # Python does it only for a logger without any handler
        attempt = current()
        if attempt is not None and record.name != "jobs":  # the job's page shows what the worker's own lines say
            try:
                attempt.note(self.format(record)[:LINE_LENGTH])
            except Exception:
                self.handleError(record)


def _is_alone(name: str) -> bool:
    """Whether a logger and those above it have no handlers besides ours: the project has not configured logging."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        if any(not isinstance(handler, AttemptLog) for handler in logger.handlers):
            return False
        logger = logger.parent if logger.propagate else None
    return True


class JobFilter(logging.Filter):
    """
    For a project's handlers: gives every record `job_id`, `command`, `queue` and `attempt`, None outside an attempt,
    and `job`, which is " [job <id>]" or nothing, for a plain format. A traceback's lines are bounded, free of control
    characters, and indented, so that an error's text forges no line.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        attempt = current()
        fields = attempt.fields() if attempt is not None else dict.fromkeys(("job_id", "command", "queue", "attempt"))
        for name, value in fields.items():
            if not hasattr(record, name):
                setattr(record, name, value)
        named = record.job_id and record.job_id not in record.getMessage()  # type: ignore[attr-defined]
        if record.exc_info:
            record.exc_text = traceback_lines(record.exc_info)
        record.job = f" [job {record.job_id}]" if named else ""  # type: ignore[attr-defined]
        return True
