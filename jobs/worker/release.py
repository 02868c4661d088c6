"""Releases the jobs that waited for a job that has ended; in slices, so that thousands of them block nothing."""

import time
from collections.abc import Iterable
from math import inf
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue

from jobs import runtime
from jobs.broker import keys
from jobs.broker.connections import Script, Word, run_script
from jobs.broker.times import as_text, iso
from jobs.job import MandateJob
from jobs.record import payload, prerequisites
from jobs.safe_logging import safe_logger
from jobs.worker.connection import Wire

logger = safe_logger("jobs")

SLICE = 50  # jobs per call

_RELEASE = Script("release.lua")


def release_the_left(wire: Wire, client: Redis, until: float) -> None:
    """
    Release dependents that a dead worker should have released, and link jobs that a dead client wrote, until `until`
    (monotonic seconds) at most, but for one slice of each of a few. Raises redis-py's errors of the wire.
    """
    for member in wire.read("SRANDMEMBER", keys.RELEASING, 10):
        release(client, member, until)
    for job_id in wire.read("SRANDMEMBER", keys.LINKING, 10):
        link(client, job_id, until)


def release(client: Redis, member: bytes | str, until: float = inf) -> bool:
    """
    Release the jobs of a member of `jobs:releasing`. The member stays there until all are released, so that recovery
    can continue. Raises nothing. Goes on until `until` (monotonic seconds) at most, but for one slice. Returns False if
    the server did not answer.

    A member is the key of a set of commands' jobs, or `rq:<queue>:<id>` for a job with plain RQ dependents.
    """
    member = member.encode() if isinstance(member, str) else member
    try:
        if member.startswith(keys.RQ.encode()):
            _release_plain(client, member)
        else:
            _release_commands(client, member, until)
    except RedisError as error:
        logger.warning("%s is released later: %s", as_text(member), error)
        return False
    except Exception:
        logger.exception("could not release %s", as_text(member))
    return True


def link(client: Redis, job_id: bytes | str, until: float) -> None:
    """
    Link a member of `jobs:linking` to its prerequisites: the client that wrote the job is gone. Raises nothing. Goes on
    until `until` (monotonic seconds) at most, but for one slice.
    """
    name = job_id if isinstance(job_id, bytes) else job_id.encode()
    try:
        if name == as_text(name).encode():
            _log_started(prerequisites.link(client, as_text(name), until))
        else:  # no id of a job: those are UTF-8
            client.srem(keys.LINKING, name)
    except RedisError as error:
        logger.warning("job %s is linked to its prerequisites later: %s", as_text(job_id), error)


def _release_commands(client: Redis, members: bytes, until: float) -> None:
    *_, prerequisite = members.split(b":", 2)  # of `jobs:dependents:<id>`; the event of a batch has colons itself
    before = None
    while True:
        words: list[Word] = [keys.RQ, prerequisite, SLICE, iso(runtime.now())]
        left, started = run_script(client, _RELEASE, [members], words)
        _log_started(started)
        if left == 0 or left == before or time.monotonic() > until:  # else it goes on later
            return
        before = left


def _log_started(started: Iterable[bytes | str]) -> None:
    for job_id in started:
        logger.info("enqueued job %s: its prerequisites are done", as_text(job_id))


def _release_plain(client: Redis, member: bytes) -> None:
    queue, _, job_id = as_text(member).removeprefix(keys.RQ).rpartition(":")
    data: Any = client.hget(keys.job(job_id), "data")
    if data is None or payload.is_command(data):
        job = MandateJob.handle(job_id, queue=queue, payload=b"", connection=client)
        Queue(queue, connection=client, job_class=MandateJob).enqueue_dependents(job)
    # RQ's code has released the dependents of a plain job that finished, except of one that was cancelled as it ran.
    client.srem(keys.RELEASING, member)
