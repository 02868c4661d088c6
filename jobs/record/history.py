"""What has happened to a job: lines of JSON in its record. A job to which nothing special happens has none."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
from rq.utils import as_text

from jobs.record import display

KEPT_FOR = 24 * 3_600  # seconds that discarded and cancelled jobs are kept, and what is left of a deleted one


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """
    One event: queued, started, finished, failed, retried, requeued, interrupted, poisoned, discarded, expired,
    rescheduled, cancelled or revived.
    """

    name: str
    at: datetime
    worker: str = ""
    reason: str = ""


def iso(seconds: float) -> str:
    """A time as RQ writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def time_of(text: bytes | str | None) -> datetime | None:
    """A time as RQ writes it, read; None for none, and for what is no time. RQ's own way takes ten times as long."""
    try:
        at = datetime.fromisoformat(as_text(text)) if text else None
    except ValueError:
        return None
    return at.replace(tzinfo=UTC) if at and at.tzinfo is None else at


def sendable(text: str) -> str:
    """A text as UTF-8 can hold it: what a command raises or logs may have in it what no text should."""
    return text.encode(errors="replace").decode()


def line(event: str, at: float, *, worker: str = "", reason: str = "") -> str:
    """An event as it lies in the record; `at` is seconds since the epoch."""
    fields: dict[str, object] = {"event": event, "at": round(at, 6), "worker": worker, "reason": sendable(reason[:500])}
    return orjson.dumps({key: value for key, value in fields.items() if value}).decode()


def read(text: bytes) -> Iterator[Event]:
    """The events in a record, the oldest first; a line that cannot be read is left out."""
    for each in text.splitlines():
        try:
            known = orjson.loads(each)
            yield Event(
                name=str(known["event"]),
                at=datetime.fromtimestamp(known["at"], UTC),
                worker=str(known.get("worker", "")),
                reason=display.text(str(known.get("reason", ""))),
            )
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            continue
