"""Detects jobs that will not do their work: those that ended without running a hook, and those without a record."""

import logging

from jobs import inspection
from jobs.job import JobState

logger = logging.getLogger(__name__)

ENDED = (JobState.DEAD, JobState.DISCARDED, JobState.CANCELLED)  # the ends without success


def why(job_id: str) -> str:
    """Return how the job was lost: dead, discarded, cancelled or gone; "" if it was not, or Redis does not answer."""
    try:
        job = inspection.find(job_id)
        state = job.state if job else None
    except Exception:  # the page must not fail with Redis
        logger.exception("The state of job %r was not read.", job_id)
        return ""
    if state is None:
        return "gone"
    return state.value if state in ENDED else ""
