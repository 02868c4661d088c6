"""
Jobs whose prerequisite ended before they were written.

A thread writes a job, and takes its prerequisite for unwritten. At that moment a second thread may write the
prerequisite, and a worker may run and forget it: nothing would release the job. So the first thread marks the handle of
the prerequisite, writes the job, and looks whether the prerequisite is written. The second thread notes that the
prerequisite is written, and looks for the mark. The thread that looks last has the job released.
"""

from collections.abc import Collection, Iterable
from typing import Any

from redis.exceptions import RedisError

from jobs.broker import keys
from jobs.record.prerequisites import Prerequisites
from jobs.safe_logging import safe_logger

logger = safe_logger("jobs")


def mark(groups: Iterable[Prerequisites], own: Collection[Any]) -> list[Any]:
    """
    Mark the unwritten prerequisites of jobs that are about to be written, but for those that are written with them.
    Returns their handles, for `release`.
    """
    awaited = [handle for each in groups for handle in each.unwritten_handles() if handle not in own]
    for handle in awaited:
        handle.is_awaited = True
    return awaited


def release(handles: Iterable[Any]) -> None:
    """
    Have a worker release the dependents of those of these jobs that are written, and have no record any more. Raises
    nothing.
    """
    for handle in handles:
        if not handle.is_written:
            continue
        client = handle.connection
        try:
            if not client.exists(keys.job(handle.id)):
                kinds = [keys.followers] if client.exists(keys.gone(handle.id)) else [keys.followers, keys.dependents]
                client.sadd(keys.RELEASING, *(kind(handle.id) for kind in kinds))
        except RedisError as error:
            logger.warning("jobs that wait for job %s may go on waiting: %s", handle.id, error)
