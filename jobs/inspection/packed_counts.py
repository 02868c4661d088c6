"""
The counts of a minute or an hour in one value, by queue and command: with hundreds of commands, a page reads it in a
tenth of the time that the hash of their labels takes.

Whoever reads counts that no longer change packs them for the next reader; a worker's parent does it first.
"""

from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import orjson

from jobs.inspection.tallies import FAILED, Tally, together

Row = tuple[str, str, dict[str, int], list[int]]  # queue, command, number by outcome, buckets each with its number
Label = tuple[str, str, str, int]  # queue, command, outcome, bucket


class Runs(NamedTuple):
    """The attempts of one command in one step of time."""

    attempts: int = 0
    failed: int = 0


class Rows(list[Row]):
    """
    The counts of a minute or an hour, and their sums, each made once. Readers share them, and change nothing.
    `is_kept`: every reader in this process gets the same object.
    """

    is_kept = False

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)

    @cached_property
    def by_queue(self) -> dict[str, Tally]:
        tallies: defaultdict[str, Tally] = defaultdict(Tally)
        for queue, _command, outcomes, buckets in self:
            tallies[queue].add_all(outcomes, buckets)
        return dict(tallies)

    @cached_property
    def runs(self) -> list[tuple[tuple[str, str], Runs]]:
        """The same by queue and command, in the order of the rows."""
        return [
            ((queue, command), Runs(sum(outcomes.values()), sum(outcomes.get(each, 0) for each in FAILED)))
            for queue, command, outcomes, _buckets in self
        ]

    @cached_property
    def total(self) -> Tally:
        return together(self.by_queue.values())


def rows_of(labels: Iterable[tuple[Label, int]]) -> Rows:
    """Return the counts of these labels by queue and command."""
    found: dict[tuple[str, str], tuple[dict[str, int], dict[int, int]]] = {}
    for (queue, command, outcome, bucket), count in labels:
        outcomes, buckets = found.setdefault((queue, command), ({}, {}))
        outcomes[outcome] = outcomes.get(outcome, 0) + count
        buckets[bucket] = buckets.get(bucket, 0) + count
    return Rows(
        (queue, command, outcomes, [number for pair in buckets.items() for number in pair])
        for (queue, command), (outcomes, buckets) in found.items()
    )


def merged(parts: Iterable[Rows]) -> Rows:
    """Return the sum of counts: one row for each queue and command."""
    every = list(parts)
    if len(every) == 1:
        return every[0]
    kept = tuple(each for each in every if each.is_kept)
    return _summed([_kept_sum(kept), *(each for each in every if not each.is_kept)])


@lru_cache(16)
def _kept_sum(parts: tuple[Rows, ...]) -> Rows:
    return _summed(parts)


def _summed(parts: Iterable[Rows]) -> Rows:
    tallies: defaultdict[tuple[str, str], Tally] = defaultdict(Tally)
    for rows in parts:
        for queue, command, outcomes, buckets in rows:
            tallies[queue, command].add_all(outcomes, buckets)
    return Rows(
        (queue, command, dict(tally.outcomes), [number for pair in tally.buckets.items() for number in pair])
        for (queue, command), tally in tallies.items()
    )


def pack(rows: Iterable[Row]) -> bytes:
    """Return the rows as one value."""
    return orjson.dumps(list(rows))


def unpack(value: Any) -> Rows | None:
    """Return the rows of a value; None for what is none."""
    return _unpacked(value) if isinstance(value, bytes) else None


@lru_cache(256)  # the minutes of two hours and the hours of three days, which each view of a page reads again
def _unpacked(value: bytes) -> Rows | None:
    try:
        rows = orjson.loads(value)
        for queue, command, outcomes, buckets in rows:
            if type(queue) is not str or type(command) is not str or not outcomes.keys() or len(buckets) % 2:
                return None
        kept = Rows(rows)
        kept.is_kept = True
        return kept
    except (ValueError, TypeError, AttributeError):
        return None
