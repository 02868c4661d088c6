"""
Runs plain RQ jobs: jobs that RQ's or django-rq's own code enqueued, with RQ's semantics and by RQ's own code.

Callbacks, Retry, depends_on, Repeat, Group, rate limits: all of it is RQ's, off the fast path. Ours are the time-out,
the thread, the rule about which functions a payload may call, and patience: RQ's code treats a server that is away as a
failed job.
"""

import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, cast

from redis.exceptions import MasterDownError, OutOfMemoryError, ReadOnlyError
from rq import Queue, SimpleWorker
from rq.callbacks import execute_stopped_callback
from rq.executions import Execution
from rq.job import Job
from rq.serializers import DefaultSerializer, JSONSerializer

from jobs import conf, execution
from jobs.attempts import reasons
from jobs.attempts.claim import Claim
from jobs.attempts.interrupt import Interruptible, Stopped
from jobs.attempts.outcomes import Dead, Ended, GivenBack, Recorded
from jobs.broker import keys
from jobs.broker.times import as_text, sendable
from jobs.errors import JobsError, PayloadError
from jobs.record import allowlist, display
from jobs.safe_logging import SafeLogger, safe_logger
from jobs.worker import rq_client
from jobs.worker.connection import UNREACHABLE
from jobs.worker.fetch import LONGEST_WAIT
from jobs.worker.parcels import LARGE
from jobs.worker.rq_interrupts import Allow, PlainJob, interruptible, penalty

logger = safe_logger("jobs")

AWAY = (*UNREACHABLE, MasterDownError, OutOfMemoryError, ReadOnlyError)  # errors of the server, not of the job
# In one step: a job that was deleted meanwhile must not get a record again.
_NOTE_REASON = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'reason', ARGV[1]) end"

# A worker may have died meanwhile, or stood still, and the job may have gone on, or have been cancelled.
_BEGIN = (
    "if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end redis.call('PERSIST', KEYS[1]) "
    "redis.call('HSET', KEYS[1], unpack(ARGV, 2)) return 1"
)

STOPPED = "Job stopped by user, work-horse terminated."  # RQ's text of the result

FIRST_PAUSE = 0.05  # seconds
TRIES = 5  # attempts, one after the other, to write an outcome while the server takes other writes


class NotOurs(Exception):
    """Raised when an attempt must write nothing: it never began, or its claim is no longer held."""


class PlainRunner(SimpleWorker):
    """The part of RQ's worker that performs one job; it fetches nothing and never beats."""

    log_result_lifespan = False
    _claim: Claim
    _allow: Allow
    _unreached = False  # whether the server was away before the call

    @classmethod
    def run(cls, worker: str, claim: Claim, thread: Interruptible, allow: Allow) -> Ended:
        """Run one plain job. RQ's code writes the outcome; a job that it cannot read is dead, with the reason."""
        name = display.UNREADABLE
        try:
            client = rq_client.client(claim.queue_name)
            serializer = _serializer(claim)
            try:
                job = cast(PlainJob, PlainJob.fetch(claim.job_id, connection=client, serializer=serializer))
            except AWAY as error:
                raise NotOurs from error
            job.origin = claim.queue_name  # where its claim is, whatever its record says
            name = sendable(str(job.func_name))
            if job.command_name:
                return execution.attempt(claim, thread)  # a command that RQ's own tools have rewritten
            runner = cls(
                [claim.queue_name],
                name=worker,
                connection=client,
                job_class=PlainJob,
                serializer=serializer,
                prepare_for_work=False,
            )
            runner.death_penalty_class = penalty(claim, allow)
            runner._claim, runner._allow = claim, allow
            runner.log = _RqLogger(runner.log, {})  # type: ignore[assignment]  # an adapter has all of its methods
            job.interruptible = interruptible(claim, thread)
            execution_id = as_text(claim.execution)
            ok = runner.perform_job(job, runner.queues[0], Execution(execution_id, job.id, client, worker))
        except NotOurs:
            return Ended(GivenBack(), name)  # refused, with a log line, if another worker has the job by now
        except BaseException as error:
            logger.error("dead: %s (job %s): %s", name, claim.job_id, error, exc_info=not isinstance(error, JobsError))
            counted = name if name == display.UNREADABLE or _is_allowed(name) else display.UNKNOWN
            return Ended(Dead(reasons.reason_of(error), traceback.format_exc()), counted)
        return Ended(Recorded(finished=bool(ok)), name if ok or _is_allowed(name) else display.UNKNOWN)

    # --- RQ's writes -----------------------------------------------------------------------------

    def prepare_job_execution(self, job: Job, remove_from_intermediate_queue: bool = False) -> None:
        """Mark the job as started, as RQ's code does, if its claim is held: the request may come late."""
        begun = _Fields()
        job.prepare_for_execution(self.name, cast(Any, begun))
        claimed = keys.registry("wip", self._claim.queue_name)
        member = self._claim.id + b":" + self._claim.execution
        try:
            if not self.connection.eval(_BEGIN, 2, job.key, claimed, member, *begun.words):
                raise NotOurs
        except AWAY:
            self._unreached = True
            raise

    def handle_execution_ended(self, job: Job, queue: Any, heartbeat_ttl: int) -> None:
        if self._unreached or not self._holds_claim():
            raise NotOurs
        self._patiently(lambda: super(PlainRunner, self).handle_execution_ended(job, queue, heartbeat_ttl))

    def _finalize_failure(self, job: Job, queue: Any, execution: Execution, exc_info: Any) -> None:
        if isinstance(exc_info[1], Stopped):
            self._finalize_stopped(job, queue, execution)
        else:
            super()._finalize_failure(job, queue, execution, exc_info)

    def _finalize_stopped(self, job: Job, queue: Any, execution: Execution) -> None:
        """
        As RQ's worker does when it has killed a work horse: the stopped callback instead of the failure callback,
        status STOPPED, no retry, no webhook.
        """
        self.handle_execution_ended(job, queue, job.stopped_callback_timeout)
        try:
            execute_stopped_callback(job, self.death_penalty_class)
        except Exception:
            logger.exception("the stopped callback of job %s failed", job.id)

        def write() -> None:
            self._stopped_job_id = job.id  # RQ's code clears it; the write may have to be repeated
            super(PlainRunner, self).handle_job_failure(job, queue=queue, exc_string=STOPPED, execution=execution)

        self._write(job, write)
        self._patiently(lambda: self.connection.eval(_NOTE_REASON, 1, job.key, STOPPED))

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        super().handle_exception(job, *exc_info)
        reason = reasons.reason_of(exc_info[1])  # for the dashboard, which groups by it; RQ keeps only the traceback
        self._patiently(lambda: self.connection.eval(_NOTE_REASON, 1, job.key, sendable(reason)))

    def handle_job_success(self, job: Job, *args: Any, **kwargs: Any) -> None:
        def write() -> None:
            super(PlainRunner, self).handle_job_success(job, *args, **kwargs)

        self._write(job, write, lambda: len(job.serializer.dumps(job._result)))

    def handle_job_failure(
        self,
        job: Job,
        queue: Queue,
        started_job_registry: Any = None,
        exc_string: str = "",
        execution: Execution | None = None,
    ) -> None:
        text = sendable(exc_string[-conf.result_limit() :])

        def write() -> None:
            super(PlainRunner, self).handle_job_failure(job, queue, started_job_registry, text, execution)

        self._write(job, write, lambda: len(text))

    def handle_job_retry(self, job: Job, *args: Any, **kwargs: Any) -> None:
        self._write(job, lambda: super(PlainRunner, self).handle_job_retry(job, *args, **kwargs))

    def _write(self, job: Job, write: Callable[[], None], size: Callable[[], int] = lambda: 0) -> None:
        """
        Have RQ's code write an outcome, once. The transaction that writes it removes the claim: while the claim exists,
        nothing has been written, even if an answer was lost or RQ's code has swallowed an error.

        A try counts if the server takes other writes just after it. One that failed as if the server were away counts
        if the outcome is large, by `size` in bytes: servers and proxies close connections that send too much.
        """
        before = dict(vars(job))  # RQ counts retries and repeats on the object
        tries = 0
        for pause in _pauses():
            failure: Exception | None = None
            try:
                write()
            except Exception as error:
                failure = error
            is_away = isinstance(failure, AWAY)
            if is_away:
                self._allow(self._claim, None)
            if not self._holds_claim():
                return  # maintenance finishes what may be left after it, such as dependents
            counts = self._takes_writes() and not (is_away and size() <= LARGE)
            tries = tries + 1 if counts else 0
            if tries == TRIES:
                if is_away:
                    text = f"The server does not take the outcome, {size():,} bytes: {failure}"
                    raise JobsError(text) from failure
                raise failure or JobsError("RQ's code could not write the outcome; the log has the reason.")
            vars(job).update(before)
            time.sleep(pause)

    def _takes_writes(self) -> bool:
        """Whether the server takes a small write that needs memory."""
        try:
            return bool(self.connection.set(keys.PROBE, "", px=1_000))
        except AWAY:
            return False

    def _holds_claim(self) -> bool:
        wip, member = keys.registry("wip", self._claim.queue_name), self._claim.id + b":" + self._claim.execution
        return self._patiently(lambda: self.connection.zscore(wip, member)) is not None

    def _patiently(self, call: Callable[[], Any]) -> Any:
        for pause in _pauses():
            try:
                return call()
            except AWAY as error:
                if pause == FIRST_PAUSE:
                    logger.warning("job %s has ended; waiting for Redis to take it: %s", self._claim.job_id, error)
                self._allow(self._claim, None)
                time.sleep(pause)

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """Do nothing: the parent beats."""

    def procline(self, message: str) -> None:
        """Leave the process title alone: the process has many threads."""


class _Fields:
    """Takes the place of the pipeline in which RQ's code sets fields of a record."""

    def __init__(self) -> None:
        self.words: list[Any] = []

    def hset(self, key: bytes, mapping: dict[str, Any]) -> None:
        self.words += (word for pair in mapping.items() for word in pair)


class _RqLogger(SafeLogger):
    """For RQ's lines, without the arguments of the job, which may be private and large."""

    def log(self, level: int, msg: object, *args: object, **options: Any) -> None:
        for name in ("arguments", "kwargs"):
            options.get("extra", {}).pop(name, None)
        super().log(level, msg, *args, **options)


def _is_allowed(name: str) -> bool:
    try:
        return bool(allowlist.resolve(name))
    except Exception:  # ForbiddenFunctionError, or whatever an import raises
        return False


def _pauses() -> Iterator[float]:
    """Yield the seconds between attempts to reach a server that is away."""
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * 2, LONGEST_WAIT)


def _serializer(claim: Claim) -> Any:
    """Return the serializer: JSON, or pickle for a payload with pickle's first byte, if the project allows it."""
    if not claim.payload.startswith(b"\x80"):
        return JSONSerializer
    if not conf.get("ALLOW_PICKLE"):
        raise PayloadError(
            "The payload is pickled, and reading a pickle can run any code. Enqueue with the JSON serializer, "
            'or set JOBS["ALLOW_PICKLE"] = True if nobody else can write to this Redis.'
        )
    return DefaultSerializer
