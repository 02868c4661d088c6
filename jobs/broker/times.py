"""Times and texts in the form in which RQ's fields and ours hold them."""

from datetime import UTC, datetime
from math import isfinite
from typing import Any

from django.conf import settings
from django.utils import timezone

MINUTE, HOUR, DAY = 60, 3_600, 86_400  # seconds

UNSEEN = 30  # seconds without a beat after which a worker process is dead
SILENCE = 15  # seconds without a beat of any worker, after which each has as long to beat again


_FIRST, _LAST = datetime(1, 1, 3, tzinfo=UTC), datetime(9999, 12, 29, tzinfo=UTC)  # in whatever zone one reads them
_FIRST_SECONDS, _LAST_SECONDS = _FIRST.timestamp(), _LAST.timestamp()


def moment(seconds: float) -> datetime:
    """The time so many seconds after the epoch; of one that not every zone could show, the nearest that all can."""
    if seconds <= _FIRST_SECONDS:
        return _FIRST
    return datetime.fromtimestamp(seconds, UTC) if seconds < _LAST_SECONDS else _LAST


def iso(seconds: float) -> str:
    """Format seconds since the epoch as RQ's timestamp: ISO 8601 with microseconds, in UTC. `strftime` is slow."""
    return moment(seconds).isoformat(timespec="microseconds")[:-6] + "Z"  # instead of +00:00


def as_django(at: datetime) -> datetime:
    """Return an aware time in the form of `timezone.now()`: with USE_TZ = False naive, in TIME_ZONE."""
    return at if settings.USE_TZ else timezone.make_naive(at, timezone.get_default_timezone())


def time_of(text: bytes | str | None) -> datetime | None:
    """Parse RQ's timestamp; None if it is empty or invalid. RQ's own parser takes ten times as long."""
    try:
        at = datetime.fromisoformat(as_text(text)) if text else None
        return None if at is None else min(max(at if at.tzinfo else at.replace(tzinfo=UTC), _FIRST), _LAST)
    except (ValueError, OverflowError):
        return None


def as_text(value: bytes | str) -> str:
    """What Redis holds, as a text. Names and ids there are anybody's: bytes that are no UTF-8 read `\\xff`."""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


LARGEST = 2**53  # beyond it a float is no whole number any more, and JSON none at all


def number_of(value: Any) -> float:
    """A number as Redis holds it, up to LARGEST; 0 for none, and for what is no number."""
    try:
        number = float(value or 0)
    except ValueError:
        return 0.0
    return max(-LARGEST, min(LARGEST, number)) if isfinite(number) else 0.0


def sendable(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot hold, and which a command's error may contain."""
    return text.encode(errors="replace").decode()
