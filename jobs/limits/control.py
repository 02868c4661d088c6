"""
What a person may change of limits: pause them or one value of their key, and put other values in the place of those
that the code declares. Everything is written to each server of the project's queues, and holds until it is taken back.
"""

import re
from contextlib import suppress
from datetime import timedelta
from itertools import islice
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from jobs import runtime
from jobs.broker import keys
from jobs.broker.connections import reaching, servers
from jobs.broker.times import MINUTE, as_text, number_of
from jobs.errors import LimitError
from jobs.limits import paused, policy, values
from jobs.limits.policy import Concurrency, Rate
from jobs.record import registry
from jobs.retries import seconds_of

FOREVER = "1e15"  # seconds since the epoch
SOME = 1_000  # lanes per call: less than a millisecond of the server's time
SEEN_LATELY = 3 * MINUTE  # seconds since when a release was seen that still counts as running


def declared() -> dict[str, tuple[Concurrency | Rate, list[str]]]:
    """Return the limits that commands declare, by their ids, each with the names of its commands."""
    found: dict[str, tuple[Concurrency | Rate, list[str]]] = {}
    for name, command in sorted(registry.all_commands().items()):
        for limit, limit_id in zip(command.limits, policy.ids(command, name), strict=True):
            found.setdefault(limit_id, (limit, []))[1].append(name)
    return found


def pause(
    limit_id: str, *, value: Any = None, text: str | None = None, seconds: float | timedelta | None = None
) -> None:
    """
    Let no job start that has this limit; with `value`, only those with this value of its key, for `seconds` (or a
    timedelta) if they are given. Running jobs continue. `text`: the value as the list of limits shows it, instead of
    `value`.

    `limit_id` may be the name of a command: then no job of the command starts, whether or not it has limits. Workers
    see that within a second.

    Raises LimitError for an unknown limit, and for a value of a limit that has no key; ValueError for impossible
    `seconds`, SerializationError, RedisUnavailableError.
    """
    limit_id, field = _pause_of(limit_id, value, text)
    if seconds is not None and not seconds_of(seconds) >= 0:
        raise ValueError(f"seconds={seconds!r} is impossible. Give seconds, 0 or more, or a timedelta.")
    until = FOREVER if seconds is None else f"{runtime.now() + seconds_of(seconds):.6f}"
    _set(limit_id, {field: until})
    if limit_id.endswith(paused.KIND):
        for client in servers():
            with reaching(client):
                client.hset(keys.PAUSED_COMMANDS, mapping={limit_id.removesuffix(paused.KIND): until})


def resume(limit_id: str, *, value: Any = None, text: str | None = None) -> None:
    """Undo `pause` with the same arguments, of a limit, a value of its key, or a command. Raises as `pause`."""
    limit_id, field = _pause_of(limit_id, value, text)
    if limit_id.endswith(paused.KIND):
        for client in servers():
            with reaching(client):
                client.hdel(keys.PAUSED_COMMANDS, limit_id.removesuffix(paused.KIND))
    _unset(limit_id, field)


def override(
    limit_id: str, *, n: int | None = None, per: float | timedelta | None = None, burst: int | None = None
) -> None:
    """
    Put other values in the place of those that the code declares, until `take_back`. What runs goes on if it is more
    than `n` now. `per` and `burst` are those of a Rate; what is not given is the code's, its burst at most `n`.

    Raises LimitError for an unknown limit, CommandDefinitionError for an impossible value.
    """
    limit = _known(limit_id)
    if n is None and per is None and burst is None:
        raise LimitError(f"Nothing was given for {limit_id}. Give its `n`, and of a Rate its `per` or `burst`.")
    if isinstance(limit, Rate):
        number = limit.n if n is None else n
        if burst is None and limit.burst is not None:
            burst = min(limit.burst, number)
        other = Rate(number, limit.per if per is None else per, burst=burst, cost=limit.cost)
        own = {"own_n": other.n, "own_per": repr(other.seconds), "own_burst": other.most}
    elif n is None or per is not None or burst is not None:
        raise LimitError(f"{limit_id} is a Concurrency: override its `n` alone.")
    else:
        Concurrency(n)
        own = {"own_n": n}
    _set(limit_id, own)
    _wake(limit_id)


def take_back(limit_id: str) -> None:
    """Undo `override`. LimitError for an unknown limit."""
    _known(limit_id)
    _unset(limit_id, "own_n", "own_per", "own_burst")


def paused_commands() -> frozenset[str]:
    """Return the names of the commands that are paused now. Raises RedisUnavailableError."""
    found: frozenset[str] = frozenset()
    for client in servers():
        with reaching(client), suppress(ResponseError):  # a key of another type pauses nothing
            until: Any = client.hgetall(keys.PAUSED_COMMANDS)
            found |= paused.current(until)
    return found


def publish(client: Redis, release: str) -> None:
    """
    Write the values that this release declares, to hold for the jobs of every release; a later release that still runs
    keeps its own. Called when a worker starts. Raises redis-py's errors.
    """
    limits = declared()
    if not limits:
        return
    fields: Any = client.hgetall(keys.RELEASES)
    known = {as_text(name): as_text(text).partition(" ") for name, text in fields.items()}
    own = number_of(known[release][0]) if release in known else runtime.now()
    for limit_id, (limit, _) in limits.items():
        before: Any = client.hget(keys.limit(limit_id), "release")
        since, _, seen = known.get(as_text(before or b""), ("", "", ""))
        if before and number_of(since) > own and number_of(seen) > runtime.now() - SEEN_LATELY:
            continue
        mapping: dict[Any, Any] = {"n": limit.n, "release": release}
        if isinstance(limit, Rate):
            mapping |= {"per": repr(limit.seconds), "burst": limit.most}
        client.hset(keys.limit(limit_id), mapping=mapping)


def _known(limit_id: str) -> Concurrency | Rate:
    limits = declared()
    if limit_id not in limits:
        raise LimitError(f"Unknown limit: {limit_id!r}. The limits are: {', '.join(limits) or 'none'}.")
    return limits[limit_id][0]


def _pause_of(limit_id: str, value: Any, text: str | None) -> tuple[str, str]:
    """Return the id of a limit, or of a command's pause, and the field of its hash that pauses it."""
    name = limit_id.removesuffix(paused.KIND)
    limit = None if name in registry.all_commands() else _known(limit_id)
    if value is None and text is None:
        return (paused.id_of(name) if limit is None else limit_id), "paused"
    if limit is None or limit.key is None:
        raise LimitError(f"{limit_id} has no key, so no value of it can be paused or resumed. Leave the value out.")
    return limit_id, f"until={values.text(value) if text is None else text}"


def _set(limit_id: str, fields: dict[Any, Any]) -> None:
    for client in servers():
        with reaching(client):
            client.hset(keys.limit(limit_id), mapping=fields)


def _unset(limit_id: str, *fields: str) -> None:
    for client in servers():
        with reaching(client):
            client.hdel(keys.limit(limit_id), *fields)
    _wake(limit_id)


def _wake(limit_id: str) -> None:
    """Mark all lanes of a limit as due: workers wake those that have room now, fifty in a step."""
    pattern = re.sub(r"([\\*?\[\]])", r"\\\1", limit_id)
    for client in servers():
        with reaching(client), suppress(ResponseError):  # a key of another type has no lanes
            found = (as_text(place) for place, _ in client.zscan_iter(keys.LIMITED, match=f"{pattern}=*", count=SOME))
            own = (place for place in found if place.startswith(f"{limit_id}="))
            while places := list(islice(own, SOME)):
                client.zadd(keys.LIMITS_DUE, dict.fromkeys(places, 0))
