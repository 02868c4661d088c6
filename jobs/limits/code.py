"""`limit`: a rate for a part of `call`, or of a view. Slots are for jobs: a view has no heartbeat that holds one."""

import asyncio
import time
from asyncio import _get_running_loop

from asgiref.sync import sync_to_async

from jobs import conf, runtime
from jobs.broker.connections import Script, get_connection, reaching, run_script
from jobs.broker.times import as_text
from jobs.errors import CommandDefinitionError, LimitError, OverLimitError
from jobs.limits import values
from jobs.limits.policy import Rate
from jobs.retries import seconds_of

_RATE = Script("rate.lua")


def limit(name: str, rate: Rate, *, value: object = "", wait: float = 5.0) -> "Limited":
    """
    Begin a block when the rate of that name admits a start: `with limit("stripe", Rate(50, per=1)):`, in async code
    `async with limit(...)`. It is the rate that commands with `Rate(..., group="stripe")` share. `value` is that of its
    key, if it has one; `wait` the seconds that the block may be delayed.

    The block raises OverLimitError if it would be delayed for longer; a job that raises it runs again at that time,
    without using a retry. It raises RedisUnavailableError, and LimitError for `with` on an event loop. Raises
    CommandDefinitionError for what is no Rate, and for a rate with a key and no `value`; ValueError for an impossible
    `name` or `wait`.
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"limit({name!r}, ...) is impossible. Give the rate a name.")
    if not isinstance(rate, Rate):
        raise CommandDefinitionError(
            f"limit({name!r}, {rate!r}) is impossible: it takes a Rate. Slots are for commands."
        )
    if rate.key is not None and value == "":
        raise CommandDefinitionError(
            f"limit({name!r}, ...): its rate has the key {rate.key!r}, and a block has no fields. Give its value=..."
        )
    if not seconds_of(wait) >= 0:
        raise ValueError(f"wait={wait!r} is impossible. Give seconds, 0 or more.")
    line = values.line(rate, rate.named(name), values.text(value) if value != "" else "")
    return Limited(name, line, seconds_of(wait))


class Limited:
    """What `limit` returns: each block that it begins is a start."""

    def __init__(self, name: str, line: str, wait: float) -> None:
        self._name, self._line, self._wait = name, line, wait

    def __enter__(self) -> None:
        if _get_running_loop() is not None:
            raise LimitError(
                f"`with limit({self._name!r}, ...)` would block the event loop of this thread while it waits. "
                "Use `async with limit(...)`."
            )
        for part in runtime.slices(self._start()):
            time.sleep(part)

    def __exit__(self, *error: object) -> None:
        pass

    async def __aenter__(self) -> None:
        if (seconds := await sync_to_async(self._start)()) > 0:
            await asyncio.sleep(seconds)

    async def __aexit__(self, *error: object) -> None:
        pass

    def _start(self) -> float:
        """Take a start of the rate. Returns the seconds until it. Raises OverLimitError, RedisUnavailableError."""
        client = get_connection(next(iter(conf.queues())))
        with reaching(client):
            seconds = float(as_text(run_script(client, _RATE, [], [self._line, repr(self._wait)])))
        if seconds > self._wait:
            raise OverLimitError(self._name, seconds)
        return seconds
