"""Attempts of one period, counted by outcome and by duration."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

FAILED = ("dead", "retried")


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

    def add_all(self, outcomes: Mapping[str, int], buckets: Sequence[int]) -> None:
        """Count attempts by their outcomes, and by buckets, each with its number behind it."""
        for outcome, count in outcomes.items():
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count
        for at in range(0, len(buckets), 2):
            self.buckets[buckets[at]] = self.buckets.get(buckets[at], 0) + buckets[at + 1]

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


def together(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of tallies."""
    total = Tally()
    for tally in tallies:
        total.outcomes.update(tally.outcomes)
        total.buckets.update(tally.buckets)
    return total
