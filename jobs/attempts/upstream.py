"""Jobs that do not begin, or not yet: by what is before them, and by their time."""

from typing import Any

from jobs.attempts import failures
from jobs.attempts.current import Attempt
from jobs.attempts.outcomes import Discarded, Outcome
from jobs.broker import keys
from jobs.broker.connections import get_connection
from jobs.record import prerequisites
from jobs.safe_logging import safe_logger

logger = safe_logger("jobs")


def instead(attempt: Attempt) -> Outcome | None:
    """Return the outcome of a job that is not to begin, or not yet; None for all others."""
    claim, few = attempt.claim, attempt.claim.more
    if few.has_prerequisites and prerequisites.lacking(get_connection(claim.queue_name), claim.job_id):
        return failures.not_yet(attempt)
    if few.on_failure == b"cancel" and (ended := bad_end(attempt)):
        return ended
    return failures.expired(attempt) if few.expires_at and claim.is_expired else None


def bad_end(attempt: Attempt) -> Discarded | None:
    """Return the outcome of a step with `on_failure="cancel"` if one of its prerequisites did not finish, or None."""
    client = get_connection(attempt.claim.queue_name)
    field: Any = client.hget(keys.job(attempt.claim.job_id), "prereqs")
    ids = prerequisites.jobs_of(prerequisites.listed(field or b""))
    bad = prerequisites.badly_ended(client, ids)
    if not bad:
        return None
    logger.warning("discarded %s: job %s before it did not finish", attempt, bad[0], extra=attempt.fields())
    return Discarded(f"cancelled: job {bad[0]} before it did not finish")
