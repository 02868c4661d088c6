"""Passes on to a worker's processes which commands a person has paused."""

from collections.abc import Iterable
from contextlib import suppress

from jobs.broker import keys
from jobs.limits import paused
from jobs.worker.connection import Wire
from jobs.worker.process import Process


def follow(wire: Wire, processes: Iterable[Process]) -> None:
    """
    Read the paused commands, and send each process what it does not know yet; one that does not read gets it with the
    next look. Processes that are forked later know them from the start. Raises redis-py's errors.
    """
    words = wire.read("HGETALL", keys.PAUSED_COMMANDS)
    paused.commands = paused.current(dict(zip(words[::2], words[1::2], strict=True)))
    for process in processes:
        with suppress(OSError):
            for name in process.paused ^ paused.commands:
                process.send("pause" if name in paused.commands else "resume", name)
                process.paused ^= {name}
