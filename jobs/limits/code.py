"""`limit`: a rate for a part of `call`, or of a view. Slots are for jobs: a view has no heartbeat that holds one."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from jobs import conf
from jobs.broker.connections import Script, get_connection, reaching, run_script
from jobs.broker.times import as_text
from jobs.errors import CommandDefinitionError, OverLimitError
from jobs.limits import values
from jobs.limits.policy import Rate
from jobs.retries import seconds_of

_RATE = Script("rate.lua")


@contextmanager
def limit(name: str, rate: Rate, *, value: object = "", wait: float = 5.0) -> Iterator[None]:
    """
    Begin the block when the rate of that name admits a start: `with limit("stripe", Rate(50, per=1)):`. It is the rate
    that commands with `Rate(..., group="stripe")` share. `value` is that of its key, if it has one; `wait` the seconds
    that the block may be delayed.

    Raises OverLimitError if it would be delayed for longer; a job that raises it runs again at that time, without using
    a retry. Raises CommandDefinitionError for what is no Rate, ValueError for an impossible `wait`,
    RedisUnavailableError.
    """
    if not isinstance(rate, Rate):
        raise CommandDefinitionError(
            f"limit({name!r}, {rate!r}) is impossible: it takes a Rate. Slots are for commands."
        )
    if not seconds_of(wait) >= 0:
        raise ValueError(f"wait={wait!r} is impossible. Give seconds, 0 or more.")
    client = get_connection(next(iter(conf.queues())))
    line = values.line(rate, rate.named(name), values.text(value) if value != "" else "")
    with reaching(client):
        seconds = float(as_text(run_script(client, _RATE, [], [line, repr(seconds_of(wait))])))
    if seconds > seconds_of(wait):
        raise OverLimitError(name, seconds)
    if seconds > 0:
        time.sleep(seconds)
    yield
