"""The steps of one job as pages, the API and the command line show them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from jobs.broker.times import moment
from jobs.errors import StepError
from jobs.job import MandateJob
from jobs.record import display
from jobs.steps.record import State

CURSOR_LENGTH = 200  # characters of a cursor that are shown


@dataclass(frozen=True, slots=True)
class StepRow:
    """
    One step. `ended` is None of the one that the job is at; `done` and `total` count items of a loop; `cursor` is the
    JSON of the last one that is recorded as done. `slow`: seconds that it once ran without a checkpoint, if too many.
    """

    name: str
    began: datetime
    ended: datetime | None
    done: int
    total: int | None
    cursor: str
    slow: int

    @property
    def seconds(self) -> float | None:
        """The time from its begin to its end, interruptions included."""
        return None if self.ended is None else (self.ended - self.began).total_seconds()


@dataclass(frozen=True, slots=True)
class JobSteps:
    """All steps that a job has begun; how often it went on from a checkpoint, and was begun anew; the last write."""

    rows: Sequence[StepRow]
    resumed: int
    begun_anew: int
    written_at: datetime


def read(text: bytes | str) -> JobSteps | None:
    """Return the steps of a record's field; None for a job without any, or a text that nobody here has written."""
    if not text:
        return None
    try:
        state = State.load(text)
        rows = [
            StepRow(
                each.name, moment(each.began), moment(each.ended), each.done, None, "", state.slow.get(each.name, 0)
            )
            for each in state.ended
        ]
        if (now := state.current) is not None:
            cursor = "" if now.cursor is None else orjson.dumps(now.cursor).decode()
            shown = display.text(cursor[:CURSOR_LENGTH])
            slow = state.slow.get(now.name, 0)
            rows.append(StepRow(now.name, moment(now.began), None, now.done, now.total, shown, slow))
        return JobSteps(rows, state.resumed, state.life, moment(state.at))
    except (StepError, ValueError, TypeError, OverflowError):
        return None


def as_dict(job: MandateJob) -> dict[str, Any] | None:
    """
    Return the steps of a job for JSON, None for a job without any; without the cursors if the arguments are private.
    Raises redis-py's errors.
    """
    text: Any = job.connection.hget(job.key, "steps")
    steps = read(text or b"")
    if steps is None:
        return None
    try:
        is_private = display.call_fields(job.command_name or "") is None
    except Exception:  # an unreadable payload
        is_private = True
    names = ("name", "began", "ended", "seconds", "done", "total")
    rows = [
        {**{name: getattr(row, name) for name in names}, "cursor": "" if is_private else row.cursor}
        for row in steps.rows
    ]
    return {"steps": rows, "resumed": steps.resumed, "begun_anew": steps.begun_anew, "written_at": steps.written_at}
