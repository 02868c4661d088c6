"""Giving back what dead workers held: every job of theirs returns to the head of its queue, once."""

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
from jobs.broker.times import SILENCE, UNSEEN, as_text, iso
from jobs.errors import JobsError
from jobs.record import registry
from jobs.safe_logging import safe_logger
from jobs.worker.commit import DEAD_TTL
from jobs.worker.connection import Wire

logger = safe_logger("jobs")

POISON = 3  # suspect interruptions without an attempt that ended between them: the job probably kills its workers

ALL, NONE = 2**53, -1  # execution numbers

_RECOVER = Script("recover.lua")
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

    Recovery goes on until `until` (monotonic seconds) at most, but for one slice; the rest is left for the next time.

    Without `only` nothing is given back during a silence (see `is_silence`).

    Raises redis-py's errors.
    """
    kept, suspicious = list(kept), "all" if suspects is None else "listed"
    listed = [*kept, *(suspects or ())]
    recovered, passed = Recovered([], []), 0
    while passed >= 0:
        back, dead, passed = wire.run(
            _RECOVER,
            [keys.registry("wip", queue), keys.queue(queue), keys.registry("failed", queue)],
            *(keys.RQ, queue, iso(runtime.now()), UNSEEN, POISON, DEAD_TTL, _POISONED, only, begun, before),
            *(suspicious, SILENCE, passed, len(kept)),
            *listed,
        )
        for jobs, into in ((back, recovered.given_back), (dead, recovered.dead)):
            into += [Held(as_text(job), as_text(worker)) for job, worker in jobs]
        if time.monotonic() > until:
            break
    return recovered


def is_silence(wire: Wire) -> bool:
    """Whether no worker is declared dead now, since none has beaten for long. Raises redis-py's errors."""
    return bool(wire.call("EXISTS", keys.SILENCE))


def bury(queue: str, dead: Iterable[Held]) -> None:
    """
    Log the jobs of a queue that `recover` declared poison, and enqueue a job that calls the handlers of `ON_DEAD`:
    handlers are the project's code, which a parent does not run. Raises nothing. If the parent dies just before this,
    only the dashboard shows that the job is dead.
    """
    for job_id, worker in dead:
        message = "dead: job %s: poison, interrupted too often, last on worker %s"
        logger.error(message, job_id, worker, extra={"job_id": job_id})
        if conf.get("ON_DEAD"):
            try:
                command: Any = registry.get("jobs.TellOfPoison")
                command.using(queue=queue).defer(job_id)
            except (JobsError, RedisError) as error:  # no answer, a full server; or the queue is another project's
                logger.warning('the handlers of JOBS["ON_DEAD"] are not called for job %s: %s', job_id, error)
