"""A job's timeline as lanes: what it waited for and each attempt, at its place between its first event and its last."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.safestring import SafeString

from jobs.dashboard import charts
from jobs.inspection.timeline import Step
from jobs.job import JobState
from jobs.record.states import ENDED

SMALLEST = 0.5  # percent of the width: a short attempt is to be seen


@dataclass(frozen=True, slots=True)
class Lane:
    """One step, with the seconds until the next one, and its bar. `attempt` is its number, 0 for a step that waits."""

    step: Step
    attempt: int
    seconds: float | None
    bar: SafeString


def lanes(steps: Sequence[Step], state: JobState | None, now: datetime, due: datetime | None) -> list[Lane]:
    """Return the lanes of a timeline. What has not ended reaches until now, or until the time that the job is due."""
    if not steps:
        return []
    ends = [_end(steps, at, state, now, due) for at in range(len(steps))]
    first, last = steps[0].at, max(ends)
    whole = (last - first).total_seconds() or 1.0
    made, number = [], 0
    for step, end in zip(steps, ends, strict=True):
        number += step.is_attempt
        start, width = (
            (each - begin).total_seconds() / whole * 100 for each, begin in ((step.at, first), (end, step.at))
        )
        width = max(SMALLEST, min(width, 100 - start))
        kind = f"jobs-state-{step.name}" if step.is_attempt else "jobs-waits"
        is_timed = not step.is_attempt or step.seconds is not None or step.name == "running"
        seconds = (end - step.at).total_seconds() if is_timed and end > step.at else step.seconds
        bar = charts.lane(kind, min(start, 100 - SMALLEST), width)
        made.append(Lane(step, number if step.is_attempt else 0, seconds, bar))
    return made


def _end(steps: Sequence[Step], at: int, state: JobState | None, now: datetime, due: datetime | None) -> datetime:
    step = steps[at]
    if step.is_attempt and step.name != "running":
        return max(step.at, step.ended or step.at)
    following = next(
        (each.at for each in steps[at + 1 :] if each.is_attempt or each.name in ("revived", "cancelled")), None
    )
    if following is not None:
        return max(step.at, following)
    if state is None or state in ENDED:
        return step.at
    return max(step.at, due or now)
