"""Log lines for collectors: an object a line."""

from typing import Any

from pythonjsonlogger.json import JsonFormatter

from jobs.safe_logging import traceback_lines


class BoundedJsonFormatter(JsonFormatter):
    """Writes tracebacks as the plain format does, so that no line has megabytes."""

    def formatException(self, exc_info: Any) -> str:
        return traceback_lines(exc_info)
