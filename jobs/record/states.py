"""The states of a job, and how the fields of its record determine its state."""

from enum import StrEnum

from rq.job import JobStatus


class JobState(StrEnum):
    """The state of a job, in this project's terms."""

    QUEUED = "queued"
    RUNNING = "running"
    SCHEDULED = "scheduled"
    RETRYING = "retrying"
    WAITING = "waiting"
    BLOCKED = "blocked"
    LIMITED = "limited"  # waits for a limit of its command
    FINISHED = "finished"
    DEAD = "dead"
    DISCARDED = "discarded"
    CANCELLED = "cancelled"
    UNSENT = "unsent"  # durable, and not in Redis: it has no record


ENDED = frozenset((JobState.FINISHED, JobState.DEAD, JobState.DISCARDED, JobState.CANCELLED))

_STATES = {
    JobStatus.CREATED: JobState.WAITING,
    JobStatus.READY_TO_ENQUEUE: JobState.WAITING,
    JobStatus.DEFERRED: JobState.WAITING,
    JobStatus.RATE_LIMITED: JobState.WAITING,
    JobStatus.QUEUED: JobState.QUEUED,
    JobStatus.SCHEDULED: JobState.SCHEDULED,
    JobStatus.STARTED: JobState.RUNNING,
    JobStatus.FINISHED: JobState.FINISHED,
    JobStatus.FAILED: JobState.DEAD,
    JobStatus.STOPPED: JobState.DEAD,
    JobStatus.CANCELED: JobState.CANCELLED,
}
WITH_REASON = {
    status.value for status in (JobStatus.SCHEDULED, JobStatus.FAILED, JobStatus.CANCELED, JobStatus.STOPPED)
}


def state_of(status: str, state: str) -> JobState:
    """Return a job's state by the fields of its record. WAITING includes blocked: that depends on its prerequisites."""
    if state == "retrying" and status == JobStatus.SCHEDULED.value:
        return JobState.RETRYING
    if state == "limited" and status == JobStatus.DEFERRED.value:
        return JobState.LIMITED
    if state == "discarded" and status == JobStatus.CANCELED.value:
        return JobState.DISCARDED
    return _STATES[JobStatus(status)]
