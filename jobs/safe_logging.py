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

LONGEST_ARGUMENT = 5_000  # characters of a value in a line
LONGEST_BLOCK = 20_000  # characters of a traceback

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class SafeLogger(logging.LoggerAdapter[logging.Logger]):
    """
    A logger that raises nothing, and whose lines stay lines, whatever is in an error's text or an id. A traceback, and
    the value after a message's last line break (`"...\\n%s"`), follow as indented lines. All of it is bounded.
    """

    def log(self, level: int, msg: object, *args: object, **options: Any) -> None:
        if not self.isEnabledFor(level):
            return
        try:
            self.logger.handle(self._record(level, msg, args, **options))
        except (Exception, SystemExit):
            with suppress(Exception):
                sys.stderr.write(f"jobs: this could not be logged: {msg}\n{traceback_lines(sys.exc_info())}\n")

    def _record(
        self, level: int, msg: object, args: tuple[object, ...], exc_info: Any = None, extra: Any = None
    ) -> logging.LogRecord:
        safe = [_in_a_line(value) for value in args]
        if isinstance(msg, str) and msg.endswith("\n%s"):
            safe[-1] = in_lines(str(args[-1]))
        if isinstance(exc_info, BaseException):
            exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
        elif exc_info and not isinstance(exc_info, tuple):
            exc_info = sys.exc_info()
        file, line, function, _ = self.logger.findCaller(stacklevel=3)
        record = self.logger.makeRecord(
            self.logger.name, level, file, line, msg, tuple(safe), exc_info or None, function, extra
        )
        if record.exc_info:
            record.exc_text = traceback_lines(record.exc_info)
        return record


def safe_logger(name: str) -> SafeLogger:
    """The logger of that name."""
    return SafeLogger(logging.getLogger(name), {})


def in_a_line(text: str) -> str:
    """A text whose line breaks and control characters are written as Python writes them."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def in_lines(text: str) -> str:
    """A text of several lines, each indented, so that none looks like a line of the log; of a long one, both ends."""
    lines = _bounded(text.rstrip("\n"), LONGEST_BLOCK).split("\n")
    return "\n".join("  " + in_a_line(line.expandtabs(4)) for line in lines)


def traceback_lines(exc_info: Any) -> str:
    """Format a traceback, as `sys.exc_info` returns it, by the rule of `in_lines`. Raises nothing."""
    try:
        return in_lines("".join(traceback.format_exception(*exc_info)))
    except (Exception, SystemExit) as unshown:  # an error's own code may raise
        return f"  (the traceback of {exc_info[0]!r} cannot be shown: {type(unshown).__name__})"


def _bounded(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}... ({len(text) - 2 * half:,} characters left out) ...{text[-half:]}"


def _in_a_line(value: object) -> object:
    if value is None or isinstance(value, int | float | tuple | list | dict | bytes):  # as their own text has none
        return value
    return in_a_line(_bounded(str(value), LONGEST_ARGUMENT))
