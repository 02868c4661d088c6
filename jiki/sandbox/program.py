"""How the two programs of a check begin, and how they speak: one Python literal a line, an answer for each request."""

import os
import signal
import sys
from typing import Any, NoReturn

import apart  # type: ignore[import-not-found]  # beside this file, where the programs look
import confine  # type: ignore[import-not-found]

LONGEST = 100_000  # bytes of a line
NO_LITERAL = "nothing that can be compared: say, a generator, an object, or too much at once"


def begin(folder: str) -> tuple[Any, int]:
    """
    Take the ends of the pipes from stdin and stdout, then confine this process; returns where to read and to write.

    With a folder it will run a learner's code from there, and goes on in namespaces of its own where it can.

    The arguments of the program are those that `jiki.sandbox` gives: the process that started it, how far it must be
    confined, and the limits.
    """
    parent, mode, cpu, memory, files, wall = sys.argv[1:7]
    confine.end_with(int(parent))
    signal.alarm(int(wall))  # if whoever started it was interrupted before it knew of it
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
    """Write one message, whole."""
    line = repr(message).encode(errors="backslashreplace") + b"\n"
    if len(line) > LONGEST:
        raise ValueError(NO_LITERAL)
    while line:
        line = line[os.write(to, line) :]


def leave() -> NoReturn:
    """End at once, whatever somebody may have registered for the end."""
    os._exit(0)
