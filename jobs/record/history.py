"""The events of a job: lines of JSON in its record. A job without special events has none."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import orjson

from jobs.broker.times import DAY, moment, number_of, sendable
from jobs.record import display

KEPT_FOR = DAY  # seconds that discarded and cancelled jobs are kept, and the note that a job was deleted


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """
    One event: queued, started, finished, failed, retried, requeued, interrupted, poisoned, discarded, expired,
    rescheduled, collapsed, cancelled, committed (of an atomic command that was cancelled too late), revived, resumed
    (ended at a checkpoint, to go on from there) or rewound (a person has its steps done anew).
    """

    name: str
    at: datetime
    worker: str = ""
    reason: str = ""


def line(event: str, at: float, *, worker: str = "", reason: str = "") -> str:
    """Return an event in the form of the record; `at` is seconds since the epoch."""
    fields: dict[str, object] = {"event": event, "at": round(at, 6), "worker": worker, "reason": sendable(reason[:500])}
    return orjson.dumps({key: value for key, value in fields.items() if value}).decode()


def read(text: bytes) -> Iterator[Event]:
    """Yield the events of a record, the oldest first; unreadable lines are left out."""
    for each in text.splitlines():
        try:
            fields = orjson.loads(each)
            yield Event(
                name=str(fields["event"]),
                at=moment(fields["at"]),
                worker=str(fields.get("worker", "")),
                reason=display.text(str(fields.get("reason", ""))),
            )
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            continue


def collapsed(text: bytes) -> Iterator[Event]:
    """Yield the event of a job into which others have collapsed, from the field `collapsed` of its record."""
    number, at = collapses(text)
    if number > 0:
        yield Event(name="collapsed", at=at, reason=f"{number} times" if number > 1 else "once")


def collapses(text: bytes) -> tuple[int, datetime]:
    """Return how many jobs have collapsed into one, and when the last did; 0 for a text that no script wrote."""
    number, _, others = text.partition(b" ")
    return int(number_of(number)), moment(number_of(others.partition(b" ")[0]))
