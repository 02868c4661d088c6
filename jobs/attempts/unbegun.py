"""The outcomes of attempts that end before `call` begins."""

from typing import Any

from jobs.attempts.current import Attempt
from jobs.attempts.outcomes import Amended, Discarded, Waiting
from jobs.broker.times import iso
from jobs.safe_logging import safe_logger

logger = safe_logger("jobs")


def not_yet(attempt: Attempt) -> Waiting:
    """Return the outcome of a job that was put into its queue before its prerequisites were done."""
    logger.info("waiting: %s has unfinished prerequisites", attempt, extra=attempt.fields())
    return Waiting()


def amended(attempt: Attempt, fields: tuple[Any, ...]) -> Amended:
    """Return the outcome of a job that was deferred without the limits that its command declares."""
    logger.info("handed back: %s was deferred before its limits were declared", attempt, extra=attempt.fields())
    return Amended(fields)


def expired(attempt: Attempt) -> Discarded:
    """Return the outcome of a job that no worker has begun in time."""
    reason = f"expired: not begun by {iso(float(attempt.claim.more.expires_at))}"
    logger.warning("discarded %s: %s", attempt, reason, extra=attempt.fields())
    return Discarded(reason, expired=True)
