"""Steps of a flow that do not run because a step before them has ended badly."""

from typing import Any

from jobs.attempts.current import Attempt
from jobs.attempts.outcomes import Discarded
from jobs.broker import keys
from jobs.broker.connections import get_connection
from jobs.record import prerequisites
from jobs.safe_logging import safe_logger

logger = safe_logger("jobs")


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
