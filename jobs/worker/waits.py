"""Warns of a command that waits for a job of the queues that its own worker serves."""

from collections.abc import Collection
from typing import Any

from jobs.attempts.current import current
from jobs.safe_logging import safe_logger
from jobs.waits import waiting
from jobs.waits.end import job_text

logger = safe_logger("jobs")


def watch(queues: Collection[str]) -> None:
    """Warn from now on, in this process, which serves these queues."""

    def warn(job: Any) -> None:
        attempt = current()
        if attempt is not None and job.origin in queues:
            message = (
                "%s waits for %s in the queue %r, which this worker serves: once all threads wait so, no job runs. "
                "Give the job a queue with workers of its own, or let the waiting one follow by prereq_jobs."
            )
            text = job_text(job)
            logger.warning(message, attempt, text[0].lower() + text[1:], job.origin, extra=attempt.fields())

    waiting.before_wait = warn
