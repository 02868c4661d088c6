"""Exit codes of commands, on the command line and for `call_command`."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import BaseCommand, CommandError

CLOSED, INTERRUPTED = 141, 130  # exit codes, as a shell reports SIGPIPE and SIGINT


def end(command: BaseCommand, code: int) -> None:
    """
    End a command with an exit code. On the command line the process exits; a caller of `call_command` goes on after
    code 0, and gets a CommandError with the code as its `returncode` after any other.
    """
    if command._called_from_command_line:  # type: ignore[attr-defined]
        raise SystemExit(code)
    if code:
        raise CommandError(f"The command ended with exit code {code}. Its output says why.", returncode=code)


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
