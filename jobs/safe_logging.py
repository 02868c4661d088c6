"""
The loggers of this package. A filter or handler of the project that raises costs the line, never a job its outcome or a
process its life.
"""

import logging
import re
import sys
import traceback
from contextlib import suppress
from typing import Any

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class SafeLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that raises nothing, and whose lines stay lines, whatever is in an error's text or an id."""

    def log(self, level: int, msg: object, *args: object, **options: Any) -> None:
        if not self.isEnabledFor(level):
            return
        try:
            self.logger.log(level, msg, *map(_in_a_line, args), stacklevel=2, **options)
        except (Exception, SystemExit):
            with suppress(Exception):
                sys.stderr.write(f"jobs: this could not be logged: {msg}\n{traceback.format_exc()}")


def safe_logger(name: str) -> SafeLogger:
    """The logger of that name."""
    return SafeLogger(logging.getLogger(name), {})


def in_a_line(text: str) -> str:
    """A text whose line breaks and control characters are written as Python writes them."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def _in_a_line(value: object) -> object:
    if value is None or isinstance(value, int | float | tuple | list | dict | bytes):  # as their own text has none
        return value
    return in_a_line(str(value))
