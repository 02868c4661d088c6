"""Whether what waits for a job waits in vain: it ended and nobody was told, or it is gone."""

import logging

from jobs import inspection
from jobs.job import JobState

logger = logging.getLogger(__name__)

ENDED = (JobState.DEAD, JobState.DISCARDED, JobState.CANCELLED)  # and not finished


def why(job_id: str) -> str:
    """What became of the job: dead, discarded, cancelled or gone; "" while it is on its way, or nobody can say."""
    try:
        job = inspection.find(job_id)
        state = job.state if job else None
    except Exception:  # the page must not fall with Redis
        logger.exception("Job %r was not looked for.", job_id)
        return ""
    if state is None:
        return "gone"
    return state.value if state in ENDED else ""
