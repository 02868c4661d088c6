"""
Entries whose next time lies far beyond their own times: it was written while the server's clock was wrong, or a person
wrote it. They would not run until then.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from redis import Redis

from jobs.broker import keys
from jobs.broker.times import DAY, as_text, moment
from jobs.recurring import serialization
from jobs.recurring.entry import Entry
from jobs.safe_logging import safe_logger

SCHEDULED = keys.SCHEDULED_BY_RQ_SCHEDULER
FAR = float(DAY)  # seconds
SLICE = 100  # entries a look
LOOK_EVERY = 30.0  # seconds between two looks

logger = safe_logger("jobs.scheduler")


def proper_time(entry: Entry, next_time: float, now: float) -> float | None:
    """Return when an entry is due, if `next_time` is more than a day after that; None if `next_time` may stay."""
    if next_time < now + FAR:
        return None
    due = entry.next_after(datetime.fromtimestamp(now, UTC)).timestamp()
    return due if next_time > due + FAR else None


class Astray:
    """Gives entries that are astray their proper times, now and then, by the server's clock."""

    def __init__(self, client: Redis) -> None:
        self._client, self._first, self._look_at = client, 0, 0.0

    def bring_back(self) -> None:
        """Look at the next slice of entries, every LOOK_EVERY seconds. Raises redis-py's errors."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_EVERY
            self._first = bring_back(self._client, self._first)


def bring_back(client: Redis, first: int) -> int:
    """
    Give entries that are astray their proper times, by the server's clock. Looks at those that are due last, SLICE of
    them from number `first` on; returns where to go on, 0 after the last.
    """
    seconds, _ = client.time()
    farthest: Any = client.zrevrangebyscore(
        SCHEDULED, "+inf", seconds + FAR, start=first, num=SLICE, withscores=True, score_cast_func=float
    )
    for entry_id, score, due in _astray(client, farthest, float(seconds)):

        def change(pipeline: Any, entry_id: str = entry_id, score: float = score, due: float = due) -> None:
            if pipeline.zscore(SCHEDULED, entry_id) == score:
                pipeline.multi()
                pipeline.zadd(SCHEDULED, {entry_id: due})

        client.transaction(change, SCHEDULED)
        logger.warning(
            "the next time of the recurring entry %s was %s, far beyond its own times: it is due at %s",
            *(entry_id, moment(score).isoformat(), moment(due).isoformat()),
        )
    return first + SLICE if len(farthest) == SLICE else 0


def _astray(client: Redis, members: list[tuple[bytes, float]], now: float) -> Iterator[tuple[str, float, float]]:
    if not members:
        return
    records = serialization.read_many(client, [as_text(entry_id) for entry_id, _ in members])
    for member, score in members:
        entry_id = as_text(member)
        try:
            if records[entry_id][0] is None:  # one of rq-scheduler's own jobs, which may begin at any time
                continue
            entry = serialization.definition(entry_id, records[entry_id]).recurs
            due = entry and proper_time(entry, score, now)
        except Exception:  # one that cannot be read is reported when it is due
            logger.debug("the recurring entry %s cannot be read", entry_id, exc_info=True)
            continue
        if due:
            yield entry_id, score, due
