"""Letting jobs go on that waited for one which has ended; in slices, so that thousands of them hold up nothing."""

import logging
import time
from math import inf

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.utils import as_text

from jobs import runtime
from jobs.broker import keys
from jobs.broker.connections import Script, Word, run_script
from jobs.broker.times import iso
from jobs.job import MandateJob

logger = logging.getLogger("jobs")

SLICE = 50  # jobs a call

_RELEASE = Script("shared.lua", "release.lua")


def release(client: Redis, member: str, until: float = inf) -> None:
    """
    Do what a member of `jobs:releasing` asks for. It stays there until that is done, so that recovery can go on with
    it; raises nothing. It goes on until then (monotonic seconds) at the most, but for one slice.

    A member is the key of a set of commands' jobs, or `rq:<queue>:<id>` for a job with plain RQ dependents.
    """
    try:
        if member.startswith(keys.RQ):
            _release_plain(client, member)
        else:
            _release_commands(client, member, until)
    except RedisError as error:
        logger.warning("%s is released later: %s", member, error)
    except Exception:
        logger.exception("could not release %s", member)


def _release_commands(client: Redis, members: str, until: float) -> None:
    prerequisite = members.rpartition(":")[2]
    before = None
    while True:
        words: list[Word] = [keys.RQ, prerequisite, SLICE, iso(runtime.now())]
        left, started = run_script(client, _RELEASE, [members], words)
        for job_id in started:
            logger.info("enqueued job %s: its prerequisites are done", as_text(job_id))
        if left == 0 or left == before or time.monotonic() > until:  # else it goes on later
            return
        before = left


def _release_plain(client: Redis, member: str) -> None:
    queue, _, job_id = member.removeprefix(keys.RQ).rpartition(":")
    job = MandateJob.handle(job_id, queue=queue, payload=b"", connection=client)
    Queue(queue, connection=client, job_class=MandateJob).enqueue_dependents(job)
    client.srem(keys.RELEASING, member)
