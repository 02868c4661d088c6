"""Letting jobs go on that waited for one which has ended; in slices, so that thousands of them hold up nothing."""

import time

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue

from jobs.broker import keys
from jobs.broker.connections import Script, run_script
from jobs.broker.times import as_text, iso
from jobs.job import MandateJob
from jobs.telling import teller

logger = teller("jobs")

SLICE = 500  # jobs a call

_RELEASE = Script("shared.lua", "release.lua")


def release(client: Redis, member: bytes | str) -> None:
    """
    Do what a member of `jobs:releasing` asks for. It stays there until that is done, so that recovery can go on with
    it; raises nothing.

    A member is the key of a set of commands' jobs, or `rq:<queue>:<id>` for a job with plain RQ dependents.
    """
    member = member.encode() if isinstance(member, str) else member
    try:
        if member.startswith(keys.RQ.encode()):
            _release_plain(client, member)
        else:
            _release_commands(client, member)
    except RedisError as error:
        logger.warning("%s is released later: %s", as_text(member), error)
    except Exception:
        logger.exception("could not release %s", as_text(member))


def _release_commands(client: Redis, members: bytes) -> None:
    prerequisite = members.rpartition(b":")[2]
    before = None
    while True:
        now = time.time()
        left, started = run_script(client, _RELEASE, [members], [keys.RQ, prerequisite, SLICE, iso(now), repr(now)])
        for job_id in started:
            logger.info("enqueued job %s: its prerequisites are done", as_text(job_id))
        if left == 0 or left == before:  # done; or a full server, where it is tried again later
            return
        before = left


def _release_plain(client: Redis, member: bytes) -> None:
    queue, _, job_id = as_text(member).removeprefix(keys.RQ).rpartition(":")
    job = MandateJob.handle(job_id, queue=queue, payload=b"", connection=client)
    Queue(queue, connection=client, job_class=MandateJob).enqueue_dependents(job)
    client.srem(keys.RELEASING, member)
