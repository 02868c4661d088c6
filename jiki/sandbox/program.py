"""Start and protocol of the two programs of a check: one Python literal per line, one answer for each request."""

import os
import signal
import sys
from typing import Any, NoReturn

import apart  # type: ignore[import-not-found]  # beside this file, where the programs look
import confine  # type: ignore[import-not-found]

LONGEST = 100_000  # bytes of a line
NO_LITERAL = "a value that cannot be compared: for example a generator, an object, or too large a value"


def begin(folder: str) -> tuple[Any, int]:
    """
    Take the pipes from stdin and stdout, then confine this process. Returns the ends for reading and writing.

    With a folder, the process will run a learner's code from it, and continues in separate namespaces where possible.

    The program's arguments come from `jiki.sandbox`: the process that started it, the required confinement, and the
    limits.
    """
    parent, mode, cpu, memory, files, wall = sys.argv[1:7]
    confine.end_with(int(parent))
    signal.alarm(int(wall))  # in case the starting process was interrupted before it had stored the child
    reading, writing = os.fdopen(os.dup(0), "rb"), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    if folder and mode != "watched":
        apart.separate()
    sys.path = [path for path in sys.path if path != os.path.dirname(__file__)]
    try:
        confine.limit(int(cpu), int(memory), int(files))
        if mode == "watched":
            raise OSError("not asked for")
        confine.confine(folder)
    except OSError as error:
        if mode == "confined":
            send(writing, ("unconfined", str(error)))
            leave()
        confine.watch()
    return reading, writing


def send(to: int, message: tuple[Any, ...]) -> None:
    """Write one message completely."""
    line = repr(message).encode(errors="backslashreplace") + b"\n"
    if len(line) > LONGEST:
        raise ValueError(NO_LITERAL)
    while line:
        line = line[os.write(to, line) :]


def leave() -> NoReturn:
    """Exit at once, without running exit handlers."""
    os._exit(0)
