"""Giving back what dead workers held: every job of theirs returns to the head of its queue, once."""

import logging
import time
import zlib
from base64 import b64encode
from collections.abc import Iterable
from math import inf
from typing import Any, NamedTuple

from redis.exceptions import RedisError

from jobs import conf, runtime
from jobs.broker import keys
from jobs.broker.connections import Script
from jobs.broker.times import SILENCE, UNSEEN, iso
from jobs.errors import JobsError
from jobs.record import registry
from jobs.worker.commit import DEAD_TTL
from jobs.worker.connection import Wire

logger = logging.getLogger("jobs")

POISON = 3  # suspect interruptions without an attempt that ended between them: the job probably kills its workers

ALL, NONE = 2**53, -1  # execution numbers

_RECOVER = Script("shared.lua", "recover.lua")
_POISONED = b64encode(
    zlib.compress(
        f"Poison: {POISON} worker processes died by themselves while they ran this job. The job's field "
        "`interrupted_by` names every worker in which the job was interrupted.".encode()
    )
).decode()


class Held(NamedTuple):
    """A job, and the worker that held its claim."""

    job_id: str
    worker: str


class Recovered(NamedTuple):
    """The jobs whose claims `recover` took away: given back to their queue, and dead as poison."""

    given_back: list[Held]
    dead: list[Held]


def recover(
    wire: Wire,
    queue: str,
    *,
    only: str = "",
    begun: int = ALL,
    before: int = ALL,
    kept: Iterable[str | bytes] = (),
    suspects: Iterable[str] | None = None,
    until: float = inf,
) -> Recovered:
    """
    Give back one queue's claims of every dead worker; with `only`, those of that worker, dead or not, but for the
    executions `kept` and those from number `before` on. `begun` is the number of the last execution that had begun:
    jobs up to it were interrupted. Of those, the executions `suspects` count towards poison; None: all of them.

    It goes on until then (monotonic seconds) at the most, but for one slice; what is left is for the next time.

    Without `only` nothing is given back in a silence, in which the living are waited for.

    Raises redis-py's errors.
    """
    kept, suspicious = list(kept), "all" if suspects is None else "listed"
    listed = [*kept, *(suspects or ())]
    found, passed = Recovered([], []), 0
    while passed >= 0:
        back, dead, passed = wire.run(
            _RECOVER,
            [keys.registry("wip", queue), keys.queue(queue), keys.registry("failed", queue)],
            *(keys.RQ, queue, iso(runtime.now()), UNSEEN, POISON, DEAD_TTL, _POISONED, only, begun, before),
            *(suspicious, SILENCE, passed, len(kept)),
            *listed,
        )
        for jobs, into in ((back, found.given_back), (dead, found.dead)):
            into += [Held(job.decode(), worker.decode()) for job, worker in jobs]
        if time.monotonic() > until:
            break
    return found


def is_silence(wire: Wire) -> bool:
    """Whether nobody is taken for dead now, since nobody has been heard for long. Raises redis-py's errors."""
    return bool(wire.call("EXISTS", keys.SILENCE))


def bury(queue: str, dead: Iterable[Held]) -> None:
    """
    Log the jobs of a queue that `recover` found to be poison, and have the handlers of `ON_DEAD` told of them: by a job
    in that queue, as they are the project's code, and who recovers runs none. Raises nothing. Of a job whose recoverer
    dies just before this the dashboard alone tells.
    """
    for job_id, worker in dead:
        message = "dead: job %s: poison, interrupted too often, last on worker %s"
        logger.error(message, job_id, worker, extra={"job_id": job_id})
        if conf.get("ON_DEAD"):
            try:
                command: Any = registry.get("jobs.TellOfPoison")
                command.using(queue=queue).defer(job_id)
            except (JobsError, RedisError) as error:  # no answer, a full server; or the queue is another project's
                logger.warning('the handlers of JOBS["ON_DEAD"] are not told of job %s: %s', job_id, error)
