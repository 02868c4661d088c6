"""A job's life in one list: what happened to it, and each attempt as one line with its worker, its time and its end."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from jobs.broker.times import as_text, time_of
from jobs.job import MandateJob
from jobs.record import display
from jobs.record.history import Event

# What an attempt can end with, as the history says it.
ENDS = ("finished", "failed", "requeued", "interrupted", "poisoned", "discarded", "expired", "cancelled")
ROUNDING = timedelta(seconds=1)  # recovery notes whole seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """
    One line. An attempt's `name` is how it ended, or "running"; its `seconds` are None where its begin is not known any
    more: of attempts before the last one, those that failed are, the last 10.
    """

    name: str
    at: datetime
    is_attempt: bool = False
    ended: datetime | None = None
    worker: str = ""
    reason: str = ""
    traceback: str = ""

    @property
    def seconds(self) -> float | None:
        """How long the attempt took."""
        return None if self.ended is None else (self.ended - self.at).total_seconds()


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """A failed attempt, as RQ's results keep it."""

    started: datetime
    ended: datetime
    worker: str
    traceback: str


def of(job: MandateJob) -> list[Step]:
    """The life of a job, the oldest first; three round trips. What cannot be read of it is left out."""
    known: Any = job.connection.hmget(job.key, "started_at", "worker_name")
    started = time_of(known[0])
    return build(job.history, attempts(job), started, as_text(known[1] or b""))


def attempts(job: MandateJob) -> list[FailedAttempt]:
    """Its failed attempts, the oldest first, the last 10; of which nothing is known but the end, that is the begin."""
    try:
        results = job.results()
    except Exception:  # one that RQ cannot read
        return []
    found = []
    for result in results:
        if result.exc_string:
            ended = _aware(result.execution_ended_at or result.created_at)
            started = _aware(result.execution_started_at or ended)
            found.append(FailedAttempt(started, ended, result.worker_name or "", display.text(result.exc_string)))
    return sorted(found, key=lambda attempt: attempt.ended)


def build(
    events: Sequence[Event], failed: Sequence[FailedAttempt], started: datetime | None, worker: str = ""
) -> list[Step]:
    """The list, from a job's events, its failed attempts, and when its last attempt began, on which worker."""
    steps, used = [], set[int]()
    for attempt in failed:
        end = _end(events, attempt.started - ROUNDING, attempt.ended + ROUNDING, ("failed", "poisoned"), used)
        steps.append(
            Step(
                name=end.name if end else "failed",
                at=attempt.started,
                is_attempt=True,
                ended=attempt.ended,
                worker=attempt.worker or (end.worker if end else ""),
                reason=end.reason if end else "",
                traceback=attempt.traceback,
            )
        )
    last = failed[-1] if failed else None
    if started is not None and not (last and started <= last.ended):
        end = _end(events, started, None, ENDS, used)
        steps.append(
            Step(
                name=end.name if end else "running",
                at=started,
                is_attempt=True,
                ended=max(end.at, started) if end else None,
                worker=worker or (end.worker if end else ""),
                reason=end.reason if end else "",
            )
        )
    steps += _others(events, used)
    return sorted(steps, key=lambda step: step.at)


def _others(events: Sequence[Event], used: set[int]) -> Iterator[Step]:
    for at, event in enumerate(events):
        if at not in used and event.name != "started":
            ended = event.name in ("failed", "requeued", "interrupted")  # an attempt of which only the end is known
            yield Step(name=event.name, at=event.at, is_attempt=ended, worker=event.worker, reason=event.reason)


def _end(
    events: Sequence[Event], first: datetime, last: datetime | None, names: Sequence[str], used: set[int]
) -> Event | None:
    for at, event in enumerate(events):
        if at not in used and event.name in names and first <= event.at and (last is None or event.at <= last):
            used.add(at)
            return event
    return None


def as_dict(step: Step) -> dict[str, Any]:
    """For JSON."""
    names = ("name", "at", "is_attempt", "ended", "worker", "reason", "traceback")
    return {name: getattr(step, name) for name in names} | {"seconds": step.seconds}


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)
