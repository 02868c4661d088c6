"""Why a job is limited: a pause, who holds the place that it waits for, or when the next may start."""

from typing import Any

from redis import Redis

from jobs import runtime
from jobs.broker import keys
from jobs.broker.times import as_text, iso, number_of
from jobs.limits import paused
from jobs.retries import CENTURY

NAMED = 3  # jobs that own a slot, and are named


def reason(client: Redis, place: str) -> str:
    """Return why the jobs in the lanes of a place wait, in one line. Raises redis-py's errors."""
    slots, due = keys.slots(place), keys.LIMITS_DUE
    limit_id, _, value = place.partition("=")
    if limit_id.endswith(paused.KIND):
        return f"{limit_id.removesuffix(paused.KIND)} is paused"
    with client.pipeline(transaction=False) as pipeline:
        pipeline.scard(slots)
        pipeline.srandmember(slots, NAMED)
        pipeline.zscore(due, place)
        pipeline.hmget(keys.limit(limit_id), "paused", f"until={value}")
        number, members, at, until = answers = pipeline.execute(raise_on_error=False)
    if any(isinstance(answer, Exception) for answer in answers):
        return place
    for which, end in zip((limit_id, place), map(number_of, until), strict=True):
        if end > runtime.now() + CENTURY:
            return f"{which} is paused"
        if end > runtime.now():
            return f"{which}: the next may start at {iso(end)}"
    if number:
        return f"{place}: {number} in use by {_jobs(members)}{', ...' if number > NAMED else ''}"
    return f"{place}: the next may start at {iso(number_of(at))}" if at else place


def _jobs(members: Any) -> str:
    return ", ".join(sorted(f"job {as_text(member).partition(':')[0]}" for member in members))
