"""
Plain RQ jobs: whatever RQ's or django-rq's own code enqueued, run with RQ's meaning by RQ's own code.

Callbacks, Retry, depends_on, Repeat, Group, rate limits: all of it is RQ's, off the fast path. Ours are the time-out,
the thread, and the rule about what a payload may call.
"""

import logging
import traceback
import zlib
from collections.abc import Callable
from typing import Any, cast

from redis import Redis
from rq import SimpleWorker
from rq.executions import Execution
from rq.serializers import DefaultSerializer, JSONSerializer
from rq.timeouts import BaseDeathPenalty

from jobs import allowed, conf, execution, failures, logs
from jobs.connections import new_pool
from jobs.errors import JobsError, PayloadError
from jobs.interrupt import Interruptible, JobInterrupt
from jobs.job import MandateJob
from jobs.outcomes import Dead, Outcome, Recorded
from jobs.worker.claim import Claim

logger = logging.getLogger("jobs")


def attempt(worker: str) -> Callable[[Claim, Interruptible], tuple[Outcome, str]]:
    """How this worker's threads make an attempt: a command's here, a plain RQ job's through RQ."""

    def make(claim: Claim, thread: Interruptible) -> tuple[Outcome, str]:
        if not claim.is_plain:
            return execution.attempt(claim, thread)
        return PlainRunner.attempt(worker, claim, thread)

    return make


class PlainRunner(SimpleWorker):
    """RQ's worker as far as performing one job goes; it fetches nothing and never beats."""

    log_result_lifespan = False

    @classmethod
    def attempt(cls, worker: str, claim: Claim, thread: Interruptible) -> tuple[Outcome, str]:
        """Run one plain job. RQ's code writes the outcome; what it cannot even read is dead, with the reason."""
        name = logs.UNREADABLE
        try:
            client = _client(claim.queue_name)
            serializer = _serializer(claim)
            job = cast(MandateJob, MandateJob.fetch(claim.job_id, connection=client, serializer=serializer))
            name = str(job.func_name)
            if name == allowed.PERFORM and job.command_name:
                return execution.attempt(claim, thread)  # a command that RQ's own tools have written anew
            runner = cls(
                [claim.queue_name],
                name=worker,
                connection=client,
                job_class=MandateJob,
                serializer=serializer,
                prepare_for_work=False,
            )
            runner.death_penalty_class = _penalty(claim, thread)
            execution_id = claim.execution.decode()
            ok = runner.perform_job(job, runner.queues[0], Execution(execution_id, job.id, client, worker))
        except BaseException as error:
            logger.error("dead: %s (job %s): %s", name, claim.job_id, error, exc_info=not isinstance(error, JobsError))
            return Dead(failures.reason_of(error), traceback.format_exc()), name
        return Recorded(finished=bool(ok)), name

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """The parent beats."""

    def procline(self, message: str) -> None:
        """The process has many threads; its title tells of none."""


def _serializer(claim: Claim) -> Any:
    """JSON; pickle, which starts with its own mark, where the project allows it."""
    try:
        data = zlib.decompress(claim.data)
    except zlib.error:
        data = claim.data
    if not data.startswith(b"\x80"):
        return JSONSerializer
    if not conf.get("ALLOW_PICKLE"):
        raise PayloadError(
            "The payload is pickled, and reading a pickle can run any code. Enqueue with the JSON serializer, "
            'or set JOBS["ALLOW_PICKLE"] = True if nobody else can write to this Redis.'
        )
    return DefaultSerializer


def _penalty(claim: Claim, thread: Interruptible) -> type[BaseDeathPenalty]:
    class ArmedInterrupt(BaseDeathPenalty):
        """Our interrupt in place of RQ's SIGALRM, which only a main thread can have."""

        def setup_death_penalty(self) -> None:
            thread.arm(claim)

        def cancel_death_penalty(self) -> None:
            try:
                thread.disarm()
            except JobInterrupt:
                thread.disarm()
                raise

    return ArmedInterrupt


_clients: dict[str, Redis] = {}


def _client(queue: str) -> Redis:
    """RQ's code makes many calls and knows no retries: it gets time-outs that a worker can bear."""
    if queue not in _clients:
        _clients[queue] = Redis(connection_pool=new_pool(queue, socket_timeout=10, socket_connect_timeout=5))
    return _clients[queue]
