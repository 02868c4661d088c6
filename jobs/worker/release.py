"""Releases the jobs that waited for a job that has ended; in slices, so that thousands of them block nothing."""

import logging
import time

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.utils import as_text

from jobs.broker import keys
from jobs.broker.connections import Script, run_script
from jobs.broker.times import iso
from jobs.job import MandateJob

logger = logging.getLogger("jobs")

SLICE = 500  # jobs per call

_RELEASE = Script("shared.lua", "release.lua")


def release(client: Redis, member: str) -> None:
    """
    Release the jobs of a member of `jobs:releasing`. The member stays there until all are released, so that recovery
    can continue. Raises nothing.

    A member is the key of a set of commands' jobs, or `rq:<queue>:<id>` for a job with plain RQ dependents.
    """
    try:
        if member.startswith(keys.RQ):
            _release_plain(client, member)
        else:
            _release_commands(client, member)
    except RedisError as error:
        logger.warning("%s is released later: %s", member, error)
    except Exception:
        logger.exception("could not release %s", member)


def _release_commands(client: Redis, members: str) -> None:
    prerequisite = members.rpartition(":")[2]
    before = None
    while True:
        now = time.time()
        left, started = run_script(client, _RELEASE, [members], [keys.RQ, prerequisite, SLICE, iso(now), repr(now)])
        for job_id in started:
            logger.info("enqueued job %s: its prerequisites are done", as_text(job_id))
        if left == 0 or left == before:  # done; or the server is full, and it is tried again later
            return
        before = left


def _release_plain(client: Redis, member: str) -> None:
    queue, _, job_id = member.removeprefix(keys.RQ).rpartition(":")
    job = MandateJob.handle(job_id, queue=queue, payload=b"", connection=client)
    Queue(queue, connection=client, job_class=MandateJob).enqueue_dependents(job)
    client.srem(keys.RELEASING, member)
