"""Reads the attempt counters that workers write at commit: by queue, command, outcome and time, with durations."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import inf
from typing import Any

from redis import Redis

from jobs import conf, runtime
from jobs.broker import keys
from jobs.broker.connections import Script, Word, run_many, run_script, servers
from jobs.broker.times import DAY, HOUR, MINUTE, as_text, number_of

FAILED = ("dead", "retried")
HOURS_KEPT = 8 * 24 * HOUR  # seconds that an hour's sum is kept
COUNTS_KEPT = 3 * DAY + HOUR  # seconds that counts and samples are kept: three days of charts, and the current hour
MINUTES_KEPT = 3 * HOUR  # seconds that the counts of a minute are kept once their hour is summed up
TOTAL, SUMMED = keys.COUNTS_TOTAL, keys.COUNTS_SUMMED

_SUM_UP = Script("shared.lua", "sum_up.lua")


@dataclass(slots=True)
class Tally:
    """Attempts of one period: how many had each outcome, and their durations, in buckets that double."""

    outcomes: Counter[str] = field(default_factory=Counter)
    buckets: Counter[int] = field(default_factory=Counter)  # bucket n: under 2**n microseconds

    def add(self, outcome: str, bucket: int, count: int) -> None:
        """Count `count` attempts."""
        # `+=` would take Counter's slow path for a new key.
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count
        self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    @property
    def attempts(self) -> int:
        """The number of attempts."""
        return self.outcomes.total()

    @property
    def failed(self) -> int:
        """The number of attempts that raised or timed out, retried or not."""
        return sum(self.outcomes.get(outcome, 0) for outcome in FAILED)

    def quantile(self, part: float) -> float:
        """
        Return the seconds within which this fraction of the attempts ended. It is the upper end of a bucket, so it is
        at most double the true value.
        """
        wanted, passed = part * self.buckets.total(), 0
        for bucket in sorted(self.buckets):
            passed += self.buckets[bucket]
            if passed >= wanted:
                return float(2**bucket / 1e6)
        return 0.0

    @property
    def seconds(self) -> float:
        """The total duration of the attempts, estimated from the middle of each bucket."""
        return float(sum(count * 0.75 * 2**bucket / 1e6 for bucket, count in self.buckets.items()))


Labels = tuple[str, str]  # queue and command
ByMinute = Sequence[tuple[int, Mapping[str, Tally]]]  # the start of each minute, and its attempts by queue


def by_time(span: int, step: int, last_hour: ByMinute = ()) -> list[tuple[int, Tally]]:
    """
    Return all attempts of the last `span` seconds, in steps of `step` seconds (a multiple of a minute): the start of
    each step (seconds since the epoch) and its counts by outcome, without durations.

    `last_hour`: what `by_time_and_queue(HOUR, MINUTE)` has just returned. The current step, at most an hour, is taken
    from it and not read again.
    """
    starts, counted = _in_steps(span, step, but_the_last=bool(last_hour))
    steps = {start: Tally() for start in starts}
    for start, of_minute in last_hour:
        if start >= starts[-1]:
            steps[starts[-1]] = together([steps[starts[-1]], *of_minute.values()])
    for start, labels in counted:
        outcomes = steps[start].outcomes  # not by `add`, which takes most of a page's time with many commands
        for (_queue, _command, outcome, _bucket), count in labels:
            outcomes[outcome] = outcomes.get(outcome, 0) + count
    return list(steps.items())


def by_time_and_queue(span: int, step: int) -> list[tuple[int, dict[str, Tally]]]:
    """Return the same by queue in each step. Queues without attempts in a step are left out."""
    starts, counted = _in_steps(span, step)
    steps = {start: defaultdict[str, Tally](Tally) for start in starts}
    for start, labels in counted:
        of_step = steps[start]
        for (queue, _command, outcome, _bucket), count in labels:
            outcomes = of_step[queue].outcomes
            outcomes[outcome] = outcomes.get(outcome, 0) + count
    return [(start, dict(of_step)) for start, of_step in steps.items()]


def by_time_and_command(span: int, step: int) -> list[tuple[int, dict[Labels, Tally]]]:
    """Return the same by queue and command in each step, with durations."""
    starts, counted = _in_steps(span, step)
    steps = {start: defaultdict[Labels, Tally](Tally) for start in starts}
    for start, labels in counted:
        of_step = steps[start]
        for (queue, command, outcome, bucket), count in labels:
            of_step[queue, command].add(outcome, bucket, count)
    return [(start, dict(of_step)) for start, of_step in steps.items()]


def last_hour() -> tuple[list[tuple[int, dict[str, Tally]]], list[tuple[int, dict[Labels, Tally]]]]:
    """Return the last hour by the minute, by queue without durations, and by queue and command; it is read once."""
    minutes = by_time_and_command(HOUR, MINUTE)
    by_queue: list[tuple[int, dict[str, Tally]]] = []
    for start, of_step in minutes:
        queues: defaultdict[str, Tally] = defaultdict(Tally)
        for (queue, _command), tally in of_step.items():
            outcomes = queues[queue].outcomes
            for outcome, count in tally.outcomes.items():
                outcomes[outcome] = outcomes.get(outcome, 0) + count
        by_queue.append((start, dict(queues)))
    return by_queue, minutes


def of_command(command: str) -> list[tuple[int, dict[str, Tally]]]:
    """Return the last hour of one command by the minute and by queue, with durations."""
    starts, counted = _in_steps(HOUR, MINUTE)
    steps = {start: defaultdict[str, Tally](Tally) for start in starts}
    for start, labels in counted:
        for (queue, name, outcome, bucket), count in labels:
            if name == command:
                steps[start][queue].add(outcome, bucket, count)
    return [(start, dict(of_step)) for start, of_step in steps.items()]


def _in_steps(span: int, step: int, *, but_the_last: bool = False) -> tuple[range, Iterable[tuple[int, "_Counted"]]]:
    """Return the starts of the steps, and the counts, each with the start of its step."""
    now = int(time.time())
    starts = range((now - span) // step * step + step, now + 1, step)
    wanted = starts[:-1] if but_the_last else starts
    read = ((start // step * step, labels) for start, labels in _read(starts.start, min(now, wanted.stop), step))
    return starts, ((start, labels) for start, labels in read if start in wanted)


def together(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of tallies."""
    total = Tally()
    for tally in tallies:
        total.outcomes.update(tally.outcomes)
        total.buckets.update(tally.buckets)
    return total


def by_command(span: int) -> dict[Labels, Tally]:
    """Return the attempts of the last `span` seconds, by queue and command."""
    now, step = int(time.time()), HOUR if span > 2 * HOUR else MINUTE
    tallies: defaultdict[Labels, Tally] = defaultdict(Tally)
    for _, labels in _read((now - span) // step * step, now, step):
        for (queue, command, outcome, bucket), count in labels:
            tallies[queue, command].add(outcome, bucket, count)
    return dict(tallies)


def by_queue(span: int) -> dict[str, Tally]:
    """Return the attempts of the last `span` seconds, by queue."""
    tallies = {name: Tally() for name in conf.queues()}
    for (queue, _command), tally in by_command(span).items():
        tallies[queue] = together([tallies.get(queue, Tally()), tally])
    return tallies


def totals() -> dict[tuple[str, str, str], Counter[int]]:
    """
    Return the number of attempts ever counted in each bucket, by queue, command and outcome. The numbers only grow,
    independently of the reader, so they serve as Prometheus counters.
    """
    counters: dict[tuple[str, str, str], Counter[int]] = {}
    for client in servers():
        summed = int(number_of(client.get(SUMMED)))
        now = int(time.time())
        first = max((summed + 1) * HOUR, now - COUNTS_KEPT) // MINUTE
        minutes = [keys.counts(minute) for minute in range(first, now // MINUTE + 1)]
        for counted in _hash_many(client, [TOTAL, *minutes]):
            for (queue, command, outcome, bucket), count in parsed(counted):
                counters.setdefault((queue, command, outcome), Counter())[bucket] += count
    return counters


def roll_up() -> None:
    """
    Sum up the hours that have ended since the last call, so that three days are read as one sum an hour, and the total
    includes minutes that expire. It is safe to call it twice.
    """
    for client in servers():
        roll_up_on(client)


def roll_up_on(client: Redis, until: float = inf) -> bool:
    """
    Do it on one server, until that time (monotonic seconds). Returns whether all hours are summed up.

    The minutes of a summed hour, which take most of the memory, are then kept for MINUTES_KEPT alone.
    """
    this_hour = int(runtime.now()) // HOUR
    last = int(number_of(client.get(SUMMED)))
    for hour in range(max(last + 1, this_hour - COUNTS_KEPT // HOUR), this_hour):
        while run_script(client, _SUM_UP, *_summing(hour * HOUR, into_total=True)) == 0:
            if time.monotonic() > until:
                return False
        with client.pipeline(transaction=False) as pipeline:
            for minute in range(hour * HOUR // MINUTE, (hour + 1) * HOUR // MINUTE):
                pipeline.expireat(keys.counts(minute), minute * MINUTE + MINUTES_KEPT)
            pipeline.execute()
        if time.monotonic() > until:
            return hour == this_hour - 1
    return True


_Counted = list[tuple[tuple[str, str, str, int], int]]


def _read(first: int, last: int, step: int) -> Iterable[tuple[int, _Counted]]:
    """Yield the counts between two times, by the minute, or by the hour where the step allows it."""
    for client in servers():
        minutes: list[int] = []
        hours: list[int] = []
        start = first // MINUTE * MINUTE
        while start <= last:
            if step >= HOUR and start % HOUR == 0 and start + HOUR <= last // HOUR * HOUR:
                hours.append(start)
                start += HOUR
            else:
                minutes.append(start)
                start += MINUTE
        hashes = [*map(_hour_key, hours), *(keys.counts(minute // MINUTE) for minute in minutes)]
        answers = _hash_many(client, hashes)
        sums = answers[: len(hours)]
        missing = [hour for hour, counted in zip(hours, sums, strict=True) if not counted]
        added_up = dict(zip(missing, _sum_up_many(client, missing), strict=True))
        for hour, counted in zip(hours, sums, strict=True):
            yield hour, parsed(counted or added_up[hour])
        for minute, counted in zip(minutes, answers[len(hours) :], strict=True):
            if counted:
                yield minute, parsed(counted)


def _sum_up_many(client: Redis, hours: Sequence[int]) -> list[dict[bytes, Any]]:
    left = list(hours)
    while left:
        are_done = run_many(client, _SUM_UP, [_summing(hour) for hour in left])
        left = [hour for hour, is_done in zip(left, are_done, strict=True) if not is_done]
    return _hash_many(client, [_hour_key(hour) for hour in hours])


def _summing(hour: int, *, into_total: bool = False) -> tuple[list[str], list[Word]]:
    minutes = [keys.counts(minute) for minute in range(hour // MINUTE, (hour + HOUR) // MINUTE)]
    sums = [_hour_key(hour), TOTAL, SUMMED, keys.counts_so_far(hour // HOUR), keys.total_so_far(hour // HOUR)]
    return [*sums, *minutes], [hour // HOUR, HOURS_KEPT, int(into_total)]


def _hash_many(client: Redis, hashes: Sequence[str]) -> list[dict[bytes, Any]]:
    with client.pipeline(transaction=False) as pipeline:
        for key in hashes:
            pipeline.hgetall(key)
        return list(pipeline.execute())


def parsed(counted: dict[bytes, Any]) -> _Counted:
    """Parse the fields of a hash of counts: each label (queue, command, outcome, bucket) with its number."""
    try:
        return [(label, int(count)) for text, count in counted.items() if (label := _label(text))]
    except ValueError:  # what is not a number counts nothing
        return [(label, int(number_of(count))) for text, count in counted.items() if (label := _label(text))]


@lru_cache(10_000)
def _label(text: bytes | str) -> tuple[str, str, str, int] | None:
    """Parse queue, command, outcome and bucket; None for an invalid label. Cached: every minute has the same labels."""
    queue, command, outcome, bucket = (*as_text(text).split("|"), "", "", "", "")[:4]
    is_label = bucket.isdecimal() and len(bucket) < 3 and as_text(text).count("|") == 3
    return (queue, command, outcome, int(bucket)) if is_label else None


def _hour_key(hour: int) -> str:
    return keys.counts_of_hour(hour // HOUR)
