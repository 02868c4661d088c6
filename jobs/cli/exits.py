"""Exit codes of a command that a closed pipe or Ctrl-C ends."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

CLOSED, INTERRUPTED = 141, 130  # exit codes, as a shell reports SIGPIPE and SIGINT


@contextmanager
def quietly() -> Iterator[None]:
    """Exit without a traceback if the reader of the output closed the pipe, or the user pressed Ctrl-C."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(CLOSED) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
