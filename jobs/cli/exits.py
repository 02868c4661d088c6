"""How a command ends when it is not the command that ends it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

CLOSED, INTERRUPTED = 141, 130  # exit codes, as a shell has them for SIGPIPE and SIGINT


@contextmanager
def quietly() -> Iterator[None]:
    """End without a traceback when whoever read the output has read enough, or somebody pressed Ctrl-C."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(CLOSED) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
