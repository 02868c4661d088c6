"""
What each command and queue did in an hour, in a line each: what is usual for an hour, and charts of two weeks.

A digest is a few kilobytes where an hour's counts are hundreds: 300 commands and 40 queues take 25 kB an hour.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median
from typing import Any, NamedTuple

from redis import Redis

from jobs import conf, runtime
from jobs.broker import keys
from jobs.broker.connections import by_server, servers
from jobs.broker.times import DAY, HOUR, MINUTE, as_text, number_of
from jobs.inspection import attempt_counts, samples
from jobs.inspection.attempt_counts import Tally

DIGESTS_KEPT = 15 * DAY  # seconds: two weeks of charts, and the same hour of the week twice
WRITTEN = ""  # the field that says that an hour is digested, though nothing may have happened in it
USUAL_DAYS = 7  # days whose same hour is compared
ENOUGH_HOURS = 2  # hours with attempts from which something is usual


@dataclass(frozen=True, slots=True)
class Digest:
    """
    An hour of one command or queue. `p50`, `p95`: seconds that its attempts took; `wait`: seconds that the first job of
    a queue had waited at most; 0 for a command.
    """

    attempts: int = 0
    failed: int = 0
    dead: int = 0
    p50: float = 0.0
    p95: float = 0.0
    seconds: float = 0.0
    wait: float = 0.0

    @classmethod
    def of(cls, tally: Tally, wait: float = 0.0) -> "Digest":
        """Build the digest of a tally."""
        p50, p95 = tally.quantile(0.5), tally.quantile(0.95)
        return cls(tally.attempts, tally.failed, tally.outcomes["dead"], p50, p95, tally.seconds, wait)

    def __add__(self, other: "Digest") -> "Digest":
        """Together: counts are added; of durations and waits the longer one counts."""
        return Digest(
            attempts=self.attempts + other.attempts,
            failed=self.failed + other.failed,
            dead=self.dead + other.dead,
            p50=max(self.p50, other.p50),
            p95=max(self.p95, other.p95),
            seconds=self.seconds + other.seconds,
            wait=max(self.wait, other.wait),
        )


@dataclass(frozen=True, slots=True)
class Usual:
    """What is usual for an hour: medians over the same hour of the last days. `hours`: how many had attempts."""

    hours: int = 0
    attempts: float = 0.0
    failed: float = 0.0  # of all attempts, from 0 to 1
    retried: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    wait: float = 0.0
    seconds: float = 0.0  # of all threads
    dead: float = 0.0

    @property
    def is_known(self) -> bool:
        """Whether there were enough hours to say so."""
        return self.hours >= ENOUGH_HOURS


class UsualNow(NamedTuple):
    """What is usual now, by command, by queue, and of all queues together."""

    commands: dict[str, Usual]
    queues: dict[str, Usual]
    together: Usual


@dataclass(frozen=True, slots=True, eq=False)
class Hour:
    """The digests of one hour, by command and by queue. Readers share it, and change nothing."""

    commands: Mapping[str, Digest]
    queues: Mapping[str, Digest]


def write_missing(client: Redis) -> bool:
    """
    Write the digest of the latest hour that has a sum and no digest. Returns whether there was one: call it again.

    Safe to call from several processes: each writes the same.
    """
    this_hour = int(runtime.now()) // HOUR
    hours = range(this_hour - 1, this_hour - attempt_counts.HOURS_KEPT // HOUR, -1)
    with client.pipeline(transaction=False) as pipeline:
        for hour in hours:
            pipeline.hexists(keys.digest(hour), WRITTEN)
            pipeline.exists(keys.counts_of_hour(hour))
        known = pipeline.execute()
    for hour, is_written, is_counted in zip(hours, known[::2], known[1::2], strict=True):
        if is_counted and not is_written:
            _write(client, hour)
            return True
    return False


def _write(client: Redis, hour: int) -> None:
    minutes = range(hour * HOUR // MINUTE, (hour + 1) * HOUR // MINUTE)
    with client.pipeline(transaction=False) as pipeline:
        pipeline.hgetall(keys.counts_of_hour(hour))
        for minute in minutes:
            pipeline.hgetall(keys.samples(minute))
        counted, *sampled = pipeline.execute()
    commands: dict[str, Tally] = {}
    queues: dict[str, Tally] = {}
    for (queue, command, outcome, bucket), count in attempt_counts.parsed(counted):
        commands.setdefault(command, Tally()).add(outcome, bucket, count)
        queues.setdefault(queue, Tally()).add(outcome, bucket, count)
    waits: dict[str, float] = {}
    for of_minute in sampled:
        for name, text in of_minute.items():
            if (queue := as_text(name)) == samples.THREADS:
                continue
            waits[queue] = max(waits.get(queue, 0.0), number_of(text.partition(b" ")[2]))
    fields: dict[Any, Any] = {f"command|{name}": _text(Digest.of(tally)) for name, tally in commands.items()}
    for name in queues.keys() | waits.keys():
        fields[f"queue|{name}"] = _text(Digest.of(queues.get(name, Tally()), waits.get(name, 0.0)))
    with client.pipeline() as pipeline:
        pipeline.hset(keys.digest(hour), mapping={WRITTEN: "1"} | fields)
        pipeline.expireat(keys.digest(hour), hour * HOUR + DIGESTS_KEPT)
        pipeline.execute()


def read(hours: Iterable[int]) -> dict[int, Hour]:
    """Return the digests of these hours (since the epoch); an hour without one is empty. One round trip a server."""
    wanted = list(hours)
    found: dict[int, Hour] = {}
    for client in servers():
        with client.pipeline(transaction=False) as pipeline:
            for hour in wanted:
                pipeline.hgetall(keys.digest(hour))
            for hour, fields in zip(wanted, pipeline.execute(), strict=True):
                of_server = _hour(tuple(fields.items()))
                found[hour] = _together(found[hour], of_server) if hour in found else of_server
    return found


def series(kind: str, name: str, hours: Iterable[int]) -> list[tuple[int, Digest]]:
    """Return the digests of one `command` or `queue` over these hours. One round trip a server."""
    wanted = list(hours)
    found = dict.fromkeys(wanted, Digest())
    for client in servers():
        with client.pipeline(transaction=False) as pipeline:
            for hour in wanted:
                pipeline.hget(keys.digest(hour), f"{kind}|{name}")
            for hour, text in zip(wanted, pipeline.execute(), strict=True):
                found[hour] += _digest(text)
    return list(found.items())


def usual_hours(now: float) -> list[int]:
    """Return the hours of the last days that are compared with the hour of `now` (seconds since the epoch)."""
    return [int(now - days * DAY) // HOUR for days in range(1, USUAL_DAYS + 1)]


def usual(digests: Iterable[Digest]) -> Usual:
    """Return what is usual, by the digests of comparable hours. Hours without attempts count for the wait alone."""
    every = list(digests)
    ran = [each for each in every if each.attempts]
    if not every:
        return Usual()
    wait = median(each.wait for each in every)
    if not ran:
        return Usual(wait=wait)
    return Usual(
        hours=len(ran),
        attempts=median(each.attempts for each in ran),
        failed=median(each.failed / each.attempts for each in ran),
        retried=median((each.failed - each.dead) / each.attempts for each in ran),
        p50=median(each.p50 for each in ran),
        p95=median(each.p95 for each in ran),
        wait=wait,
        seconds=median(each.seconds for each in ran),
        dead=median(each.dead for each in ran),
    )


def usual_now(now: float) -> UsualNow:
    """Return what is usual for the hour of `now`. One round trip a server."""
    return _usual_of(tuple(read(usual_hours(now)).values()), tuple(conf.queues()))


@lru_cache(4)  # it changes once an hour
def _usual_of(hours: Sequence[Hour], every_queue: Sequence[str]) -> UsualNow:
    commands: dict[str, list[Digest]] = {}
    queues: dict[str, list[Digest]] = {name: [] for name in every_queue}
    for hour in hours:
        for name, digest in hour.commands.items():
            commands.setdefault(name, []).append(digest)
        for name, digest in hour.queues.items():
            queues.setdefault(name, []).append(digest)
    return UsualNow(
        {name: usual(each) for name, each in commands.items()},
        {name: usual(each) for name, each in queues.items()},
        usual(sum(hour.queues.values(), Digest()) for hour in hours),
    )


def waits(hours: Iterable[int]) -> dict[int, tuple[float, str]]:
    """Return the longest wait of each of these hours and its queue, 0 and "" without one. One round trip a server."""
    found = dict.fromkeys(hours, (0.0, ""))
    for client, names in by_server(conf.queues()).items():
        with client.pipeline(transaction=False) as pipeline:
            for hour in found:
                pipeline.hmget(keys.digest(hour), [f"queue|{name}" for name in names])
            for hour, texts in zip(found, pipeline.execute(), strict=True):
                waited = [(wait, name) for name, text in zip(names, texts, strict=True) if (wait := _digest(text).wait)]
                found[hour] = max(found[hour], *waited) if waited else found[hour]
    return found


def _text(digest: Digest) -> str:
    numbers = (digest.p50, digest.p95, digest.seconds, digest.wait)
    counts = f"{digest.attempts} {digest.failed} {digest.dead}"
    return f"{counts} {' '.join(f'{number:.9g}' for number in numbers)}"


def _digest(text: bytes | None) -> Digest:
    attempts, failed, dead, *numbers = [*map(number_of, (text or b"").split()), *[0.0] * 7][:7]
    return Digest(int(attempts), int(failed), int(dead), *numbers)


@lru_cache(64)  # the same hours are read for each view of a page
def _hour(fields: Iterable[tuple[bytes, bytes]]) -> Hour:
    of_kind: dict[str, dict[str, Digest]] = {"command": {}, "queue": {}}
    for field, text in fields:
        kind, _, name = as_text(field).partition("|")
        if kind in of_kind:
            of_kind[kind][name] = _digest(text)
    return Hour(of_kind["command"], of_kind["queue"])


def _together(one: Hour, other: Hour) -> Hour:
    return Hour(_sum(one.commands, other.commands), _sum(one.queues, other.queues))


def _sum(one: Mapping[str, Digest], other: Mapping[str, Digest]) -> dict[str, Digest]:
    return {**one, **{name: one.get(name, Digest()) + digest for name, digest in other.items()}}
