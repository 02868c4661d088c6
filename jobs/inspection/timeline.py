"""Builds a job's timeline: its events, and each attempt as one step with its worker, its duration and its outcome."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from jobs.broker.times import as_text, time_of
from jobs.job import MandateJob
from jobs.record import display
from jobs.record.history import Event

# The events of the history that can end an attempt.
ENDS = ("finished", "failed", "requeued", "resumed", "interrupted", "poisoned", "discarded", "expired", "cancelled")
_MARKED = ("failed", "requeued", "resumed", "interrupted")  # an attempt of which only the end may be recorded
ROUNDING = timedelta(seconds=1)  # recovery records whole seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """
    One line of the timeline. An attempt's `name` is the event that ended it, or "running". Its `seconds` are None if
    its start is no longer recorded: only the last attempt and the last 10 failed ones have it.
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
        """The duration of the attempt."""
        return None if self.ended is None else (self.ended - self.at).total_seconds()


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """A failed attempt, as RQ's results keep it."""

    started: datetime
    ended: datetime
    worker: str
    traceback: str


def of(job: MandateJob) -> list[Step]:
    """Return the timeline of a job, the oldest step first. Unreadable parts are left out. Three round trips."""
    record: Any = job.connection.hmget(job.key, "started_at", "worker_name")
    started = time_of(record[0])
    return build(job.history, attempts(job), started, as_text(record[1] or b""))


def attempts(job: MandateJob) -> list[FailedAttempt]:
    """Return the job's last 10 failed attempts, the oldest first. One without a recorded start starts at its end."""
    try:
        results = job.results()
    except Exception:  # RQ cannot read one of them
        return []
    failed = []
    for result in results:
        if result.exc_string:
            ended = _aware(result.execution_ended_at or result.created_at)
            started = _aware(result.execution_started_at or ended)
            failed.append(FailedAttempt(started, ended, result.worker_name or "", display.text(result.exc_string)))
    return sorted(failed, key=lambda attempt: attempt.ended)


def build(
    events: Sequence[Event], failed: Sequence[FailedAttempt], started: datetime | None, worker: str = ""
) -> list[Step]:
    """Build the timeline from a job's events, its failed attempts, and its last attempt's start and worker."""
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
            ended = event.name in (
                "failed",
                "requeued",
                "resumed",
                "interrupted",
            )  # an attempt of which only the end is recorded
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
    """Return a step for JSON."""
    names = ("name", "at", "is_attempt", "ended", "worker", "reason", "traceback")
    return {name: getattr(step, name) for name in names} | {"seconds": step.seconds}


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)
