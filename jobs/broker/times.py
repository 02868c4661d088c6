"""Times and texts in the form in which RQ's fields and ours hold them."""

from datetime import UTC, datetime

from rq.utils import as_text

MINUTE, HOUR, DAY = 60, 3_600, 86_400  # seconds

UNSEEN = 30  # seconds without a beat after which a worker process is dead


def iso(seconds: float) -> str:
    """Format seconds since the epoch as RQ's timestamp: ISO 8601 with microseconds, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def time_of(text: bytes | str | None) -> datetime | None:
    """Parse RQ's timestamp; None if it is empty or invalid. RQ's own parser takes ten times as long."""
    try:
        at = datetime.fromisoformat(as_text(text)) if text else None
    except ValueError:
        return None
    return at.replace(tzinfo=UTC) if at and at.tzinfo is None else at


def sendable(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot hold, and which a command's error may contain."""
    return text.encode(errors="replace").decode()
