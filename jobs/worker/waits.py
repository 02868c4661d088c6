"""Commands that wait for jobs: they can be interrupted, and are warned of jobs that their own worker has to run."""

from collections.abc import Collection
from typing import Any

from jobs import runtime
from jobs.attempts.current import current
from jobs.attempts.raising import raise_in_wait
from jobs.errors import WaitRefusedError
from jobs.safe_logging import safe_logger
from jobs.waits import waiting
from jobs.waits.end import job_text

logger = safe_logger("jobs")


def watch(queues: Collection[str]) -> None:
    """From now on, in this process, which serves these queues: interrupt what waits, and warn of what may wait long."""

    def warn(job: Any) -> None:
        attempt = current()
        if attempt is not None and attempt.claim.job_id == job.id:
            raise WaitRefusedError(f"{job_text(job)} cannot wait for itself: it ends when this call returns.")
        if attempt is not None and job.origin in queues:
            message = (
                "%s waits for %s in the queue %r, which this worker serves: once all threads wait so, no job runs. "
                "Give the job a queue with workers of its own, or let the waiting one follow by prereq_jobs."
            )
            text = job_text(job)
            logger.warning(message, attempt, text[0].lower() + text[1:], job.origin, extra=attempt.fields())

    waiting.before_wait = warn
    runtime.raise_interrupt = raise_in_wait
