"""Reads the attempt counters that workers write at commit: by queue, command, outcome and time, with durations."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from math import inf
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from jobs import conf, runtime
from jobs.broker import keys
from jobs.broker.connections import Script, Word, run_many, run_script, servers
from jobs.broker.times import DAY, HOUR, MINUTE, as_text, number_of
from jobs.inspection import packed_counts
from jobs.inspection.packed_counts import Rows, merged
from jobs.inspection.tallies import FAILED as FAILED
from jobs.inspection.tallies import Tally as Tally
from jobs.inspection.tallies import together as together

HOURS_KEPT = 8 * 24 * HOUR  # seconds that an hour's sum is kept
COUNTS_KEPT = 3 * DAY + HOUR  # seconds that counts and samples are kept: three days of charts, and the current hour
MINUTES_KEPT = 3 * HOUR  # seconds that the counts of a minute are kept once their hour is summed up
PACKED_AFTER = 3 * MINUTE  # seconds after which the counts of a minute change no more
TOTAL, SUMMED = keys.COUNTS_TOTAL, keys.COUNTS_SUMMED

_SUM_UP = Script("sum_up.lua")


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
            for tally in of_minute.values():
                steps[starts[-1]].outcomes.update(tally.outcomes)
    for start, rows in counted:
        steps[start].outcomes.update(rows.total.outcomes)
    return list(steps.items())


def by_time_and_queue(span: int, step: int) -> list[tuple[int, dict[str, Tally]]]:
    """Return the same by queue in each step, with durations. Queues without attempts in a step are left out."""
    return of_queues(rows_by_time(span, step))


def of_queues(steps: Iterable[tuple[int, Rows]]) -> list[tuple[int, dict[str, Tally]]]:
    """Return what `rows_by_time` has read by queue."""
    return [(start, rows.by_queue) for start, rows in steps]


def rows_by_time(span: int, step: int) -> list[tuple[int, Rows]]:
    """Return the same as rows, which cost less than tallies: one for each queue and command in a step."""
    starts, counted = _in_steps(span, step)
    steps: dict[int, list[Rows]] = {start: [] for start in starts}
    for start, rows in counted:
        steps[start].append(rows)
    return [(start, merged(parts)) for start, parts in steps.items()]


def last_hour() -> tuple[list[tuple[int, dict[str, Tally]]], list[tuple[int, Rows]]]:
    """Return the last hour by the minute: by queue, and as rows. It is read once."""
    minutes = rows_by_time(HOUR, MINUTE)
    return of_queues(minutes), minutes


def of_command(command: str) -> list[tuple[int, dict[str, Tally]]]:
    """Return the last hour of one command by the minute and by queue, with durations."""
    starts, counted = _in_steps(HOUR, MINUTE)
    steps = {start: defaultdict[str, Tally](Tally) for start in starts}
    for start, rows in counted:
        for queue, name, outcomes, buckets in rows:
            if name == command:
                steps[start][queue].add_all(outcomes, buckets)
    return [(start, dict(of_step)) for start, of_step in steps.items()]


def _in_steps(span: int, step: int, *, but_the_last: bool = False) -> tuple[range, Iterable[tuple[int, Rows]]]:
    """Return the starts of the steps, and the counts, each with the start of its step."""
    now = int(time.time())
    starts = range((now - span) // step * step + step, now + 1, step)
    wanted = starts[:-1] if but_the_last else starts
    read = ((start // step * step, rows) for start, rows in _read(starts.start, min(now, wanted.stop), step))
    return starts, ((start, rows) for start, rows in read if start in wanted)


def by_command(span: int) -> dict[Labels, Tally]:
    """Return the attempts of the last `span` seconds, by queue and command."""
    now, step = int(time.time()), HOUR if span > 2 * HOUR else MINUTE
    tallies: defaultdict[Labels, Tally] = defaultdict(Tally)
    for queue, command, outcomes, buckets in merged(rows for _, rows in _read((now - span) // step * step, now, step)):
        tallies[queue, command].add_all(outcomes, buckets)
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


def _read(first: int, last: int, step: int) -> Iterable[tuple[int, Rows]]:
    """Yield the counts between two times, by the minute, or by the hour where the step allows it."""
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
    settled = int(runtime.now()) - PACKED_AFTER
    packed = [(each, HOUR) for each in hours] + [(each, MINUTE) for each in minutes if each + MINUTE <= settled]
    fresh = [each for each in minutes if each + MINUTE > settled]
    for client in servers():
        with client.pipeline(transaction=False) as pipeline:
            for each, length in packed:
                pipeline.get(keys.counts_packed(f"{each}:{length}"))
            for each in fresh:
                pipeline.hgetall(keys.counts(each // MINUTE))
            answers = pipeline.execute()
        known = dict(zip(packed, map(packed_counts.unpack, answers), strict=False))
        if lacking := [place for place, rows in known.items() if rows is None]:
            known |= _packed(client, lacking)
        for (each, _length), rows in known.items():
            yield each, rows or Rows()
        for each, counted in zip(fresh, answers[len(packed) :], strict=True):
            if counted:
                yield each, packed_counts.rows_of(parsed(counted))


def pack_on(client: Redis) -> None:
    """Pack the minutes of the last hour that no longer change, so that no reader has to."""
    settled = (int(runtime.now()) - PACKED_AFTER) // MINUTE * MINUTE
    places = [(start, MINUTE) for start in range(settled - HOUR, settled, MINUTE)]
    with client.pipeline(transaction=False) as pipeline:
        for place in places:
            pipeline.exists(keys.counts_packed("{}:{}".format(*place)))
        lacking = [place for place, is_there in zip(places, pipeline.execute(), strict=True) if not is_there]
    _packed(client, lacking)


def _packed(client: Redis, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Rows | None]:
    """Return the counts of these minutes and hours by their start and length, and pack them for the next reader."""
    hours = [start for start, length in places if length == HOUR]
    if hours:
        sums = _hash_many(client, [_hour_key(hour) for hour in hours])
        missing = [hour for hour, counted in zip(hours, sums, strict=True) if not counted]
        added_up = dict(zip(missing, _sum_up_many(client, missing), strict=True))
        by_hour = {hour: counted or added_up[hour] for hour, counted in zip(hours, sums, strict=True)}
    minutes = [start for start, length in places if length == MINUTE]
    by_minute = dict(zip(minutes, _hash_many(client, [keys.counts(each // MINUTE) for each in minutes]), strict=True))
    found: dict[tuple[int, int], Rows | None] = {}
    with client.pipeline(transaction=False) as pipeline:
        for start, length in places:
            counted = by_hour[start] if length == HOUR else by_minute[start]
            found[start, length] = rows = packed_counts.rows_of(parsed(counted))
            kept = COUNTS_KEPT if length == HOUR else MINUTES_KEPT
            pipeline.set(keys.counts_packed(f"{start}:{length}"), packed_counts.pack(rows), ex=kept)
        with suppress(RedisError):  # a full server keeps no copy, and a replica closes the connection
            pipeline.execute(raise_on_error=False)
    return found


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
