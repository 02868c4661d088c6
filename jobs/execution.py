"""
One attempt of a job. Only this module decides its outcome; `failures` decides what follows a failure.

Every payload of a command calls `perform`, in any worker; our worker runs a claim with `attempt`.
"""

import inspect
import logging
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial, wraps
from typing import Any, cast

import orjson
from asgiref.sync import sync_to_async
from django.db import DatabaseError
from rq.job import get_current_job

from jobs import conf
from jobs.attempts import amending, failures, forks, profiles, upstream
from jobs.attempts.claim import NOTHING_MORE, Claim
from jobs.attempts.current import Attempt, begin, end
from jobs.attempts.interrupt import Interruptible, JobInterrupt, Stopped, TimedOut
from jobs.attempts.loop_task import LoopTask
from jobs.attempts.outcomes import Committed, Ended, Finished, GivenBack
from jobs.batches.record import within
from jobs.broker.connections import get_connection
from jobs.client.context import restored
from jobs.errors import (
    ForbiddenFunctionError,
    LoopBlockedError,
    MissingRecordError,
    NewerPayloadError,
    PayloadError,
    PrereqJobNotFinishedError,
)
from jobs.job import MandateJob
from jobs.limits import paused
from jobs.mandate import Mandate, finished, invoke
from jobs.outbox import receipts
from jobs.record import arguments, display, payload, prerequisites, references, registry
from jobs.safe_logging import safe_logger

logger = safe_logger("jobs")

_AS_IT_IS = nullcontext()


def perform(name: str, /, *args: Any, **kwargs: Any) -> Any:
    """
    Run the command of that name with these arguments, in the form that the payload has, and return its result.

    Raises PrereqJobNotFinishedError, UnknownCommandError, PayloadError for arguments that cannot be read or no longer
    fit the command, MissingRecordError if a record that they refer to is gone, and every error of the command: a worker
    that is not ours never takes a failed attempt for a successful one.
    """
    job = get_current_job()
    if job is not None and (lacking := prerequisites.lacking(job.connection, job.id)):
        raise PrereqJobNotFinishedError(f"Unfinished job: {min(lacking)}")
    command = _build(name, list(args), kwargs, is_tagged=True)
    if isinstance(job, MandateJob):
        vars(command)["_job"] = job
    return invoke(command) if job is None or not command.atomic else _perform_once(command, job.id)


def _perform_once(command: Mandate, job_id: str) -> Any:
    try:
        return receipts.once(command, job_id.encode(), command.call, _result)()
    except BaseException as error:
        receipt = receipts.find(command, job_id.encode())
        if receipt is None:
            raise
        logger.info("job %s of %s has been committed before: %s", job_id, type(command).__qualname__, error)
    return None if receipt.result is None else arguments.decode(orjson.loads(receipt.result))


def attempt(claim: Claim, thread: Interruptible) -> Ended:
    """Run a claimed command in this thread. Returns how it ended, and the command's name; raises nothing."""
    current = begin(claim)
    command = None
    try:
        call = payload.read(claim.data)
        current.command = call.name
        few = claim.more
        if few is not NOTHING_MORE and (instead := upstream.instead(current)):
            return Ended(instead, current.command)
        with (
            restored(few.context) if few.context else _AS_IT_IS,
            within(few.batches, claim.id) if few.batches else _AS_IT_IS,
        ):
            if few.batches and call.is_tagged:
                call = _with_results(claim, call)
            built = _build(*call)
            if built.is_async and thread.loop is not None and not (claim.is_async or claim.is_plain):
                return Ended(amending.kind(claim, is_async=True), current.command)
            if (built.limits or paused.commands) and amending.lacks_limits(claim, built):
                return Ended(amending.limits(current, built, call), current.command)
            command = built
            vars(command)["_claim"] = claim
            is_logged = logger.isEnabledFor(logging.INFO)
            if is_logged:
                _log_begin(current, call)
            run: profiles.Run = thread.run_async if command.is_async else thread.run
            if few.profile or command.profile_rate or profiles.next_ones:
                run = profiles.profiled(run, current, command, asked=bool(few.profile))
            body: Callable[[], Any] = command.call
            if command.atomic:
                body = receipts.once(command, claim.id, _in_this_process(body), _result if claim.ttl else _no_result)
            result = finished(command, run(claim, body))
            if is_logged:
                spent = (time.monotonic() - claim.started) * 1_000
                logger.info("performed %s in %.0f ms", current, spent, extra=current.fields())
    except BaseException as error:  # SystemExit too: a command must not end the worker
        if isinstance(error, TimedOut):
            error = _with_text(error, claim)
        if receipt := _receipt(error, current, command, thread):
            return Ended(Committed(receipt.result if claim.ttl else None, claim.ttl), current.command)
        return Ended(failures.outcome(error, current, command), _counted(current))
    finally:
        end(current)
    log = "\n".join(current.lines) if current.lines and command.keep_log else ""
    kind = Committed if command.atomic else Finished
    return Ended(kind(_result(result) if claim.ttl else None, claim.ttl, log), current.command)


async def attempt_on_loop(claim: Claim, task: LoopTask) -> Ended:
    """Run a claimed async command as this task of the event loop; what may block runs in lent threads."""
    current = begin(claim)
    command = None
    try:
        call = payload.read(claim.data)
        current.command = call.name
        few = claim.more
        asks = few.has_prerequisites or few.on_failure  # the server
        if instead := await sync_to_async(upstream.instead)(current) if asks else upstream.instead(current):
            return Ended(instead, current.command)
        with (
            restored(few.context) if few.context else _AS_IT_IS,
            within(few.batches, claim.id) if few.batches else _AS_IT_IS,
        ):
            if few.batches and call.is_tagged:
                call = await sync_to_async(_with_results)(claim, call)
            kind: Any = registry.get(call.name)
            is_quick = not call.is_tagged and not hasattr(kind, "__post_init__")
            built = _build(*call) if is_quick else await sync_to_async(_build)(*call)
            if not built.is_async:
                return Ended(amending.kind(claim, is_async=False), current.command)
            if (built.limits or paused.commands) and amending.lacks_limits(claim, built):
                return Ended(await sync_to_async(amending.limits)(current, built, call), current.command)
            command = built
            vars(command)["_claim"] = claim
            is_logged = logger.isEnabledFor(logging.INFO)
            if is_logged:
                _log_begin(current, call)
            run: profiles.AsyncRun = task.run
            if few.profile or command.profile_rate or profiles.next_ones:
                run = profiles.profiled_on_loop(run, current, command, asked=bool(few.profile))
            result = finished(command, await run(claim, command.call))
            if is_logged:
                spent = (time.monotonic() - claim.started) * 1_000
                logger.info("performed %s in %.0f ms", current, spent, extra=current.fields())
    except BaseException as raised:
        error = _with_text(raised, claim) if isinstance(raised, TimedOut) else raised
    else:
        log = "\n".join(current.lines) if current.lines and command.keep_log else ""
        return Ended(Finished(_result(result) if claim.ttl else None, claim.ttl, log), current.command)
    if task.is_dropped:
        return Ended(GivenBack(), current.command)
    # Beside the handler: asgiref would raise the error once more in the lent thread, to show it there.
    outcome = await sync_to_async(failures.outcome)(error, current, command)
    return Ended(outcome, _counted(current))


_EXPECTED = (receipts.AlreadyCommittedError, DatabaseError, MissingRecordError, JobInterrupt)  # beside a receipt


def _receipt(
    error: BaseException, attempt: Attempt, command: Mandate | None, thread: Interruptible
) -> receipts.Found | None:
    """
    Return the receipt of the job, if this attempt or another one has committed, whatever it has raised after that or
    instead. None for a command that is not atomic, and if the database does not answer.
    """
    if command is None and not registry.knows(attempt.command):
        return None
    kind: Any = command or registry.get(attempt.command)
    if not kind.atomic:
        return None
    try:
        receipt: receipts.Found | None = thread.run(attempt.claim, partial(receipts.find, kind, attempt.claim.id))
    except BaseException as unread:
        logger.warning("the receipt of %s cannot be read: %s", attempt, unread, extra=attempt.fields())
        return None
    if receipt and isinstance(error, _EXPECTED):
        logger.info("finished %s: it has been committed (%s)", attempt, error, extra=attempt.fields())
    elif receipt:
        message = "finished %s: it has committed, and this came after that, or in another attempt"
        logger.error(message, attempt, exc_info=error, extra=attempt.fields())
    return receipt


def given_up(claim: Claim, kind: type[JobInterrupt]) -> Ended:
    """Return how a job ends whose thread did not return from an interrupt of that kind, and the command's name."""
    error = failures.timed_out(claim.limit) if kind is TimedOut else kind()
    error.add_note("The thread did not return, either; the worker's log shows where it was.")
    return _without_its_end(claim, error)


def stopped(claim: Claim) -> Ended:
    """Return how a job ends that is stopped before its attempt has begun, and the command's name."""
    return _without_its_end(claim, Stopped())


def blocked(claim: Claim, seconds: float) -> Ended:
    """Return how a job ends that has blocked its event loop for so many seconds, and the command's name."""
    error = LoopBlockedError(
        f"It has blocked the event loop, and all jobs there, for over {seconds:g} s. Call what blocks by sync_to_async."
    )
    error.add_note("The worker's log shows where it was.")
    return _without_its_end(claim, error)


def _without_its_end(claim: Claim, error: BaseException) -> Ended:
    current = begin(claim)
    with suppress(PayloadError, ForbiddenFunctionError):  # a plain RQ job
        current.command = payload.read(claim.data).name
    end(current)
    return Ended(failures.outcome(error, current, None), _counted(current))


def _in_this_process(call: Callable[[], Any]) -> Callable[[], Any]:
    """Wrap `call` so that a process that it has forked ends with it: the fork must not commit."""

    @wraps(call)
    def calling() -> Any:
        try:
            return call()
        finally:
            forks.leave_if_forked()

    return calling


def _no_result(value: Any) -> None:
    """Encode no result: the job keeps none."""


def _counted(attempt: Attempt) -> str:
    """Return the name under which a failed attempt is counted."""
    is_listed = attempt.command == display.UNREADABLE or registry.knows(attempt.command)
    return attempt.command if is_listed else display.UNKNOWN


def _with_text(error: TimedOut, claim: Claim) -> TimedOut:
    """Return the interrupt with the limit in its text: only a class can be raised in another thread."""
    worded = failures.timed_out(claim.limit).with_traceback(error.__traceback__)
    worded.__cause__, worded.__context__ = error.__cause__, error.__context__
    worded.__suppress_context__ = error.__suppress_context__
    return worded


def _with_results(claim: Claim, call: payload.Call) -> payload.Call:
    args, kwargs = references.filled(get_connection(claim.queue_name), [call.args, call.kwargs])
    return call._replace(args=args, kwargs=kwargs)


def _log_begin(attempt: Attempt, call: payload.Call) -> None:
    shown = display.call(call.name, call.args, call.kwargs)
    logger.info("performing %s from %s: %s", attempt, attempt.claim.queue_name, shown, extra=attempt.fields())


def _build(name: str, args: list[Any], kwargs: dict[str, Any], is_tagged: bool) -> Mandate:
    command = cast(type[Mandate], registry.get(name))
    if is_tagged:  # otherwise the arguments are plain JSON
        args, named = arguments.decode([args, {"": kwargs}])
        kwargs = named[""]
    try:
        return command(*args, **kwargs)
    except TypeError:
        try:
            inspect.signature(command).bind(*args, **kwargs)
        except TypeError as error:
            raise NewerPayloadError(  # perhaps: a command of another release has other fields
                f"The payload's arguments do not fit {name}: {error}. A release with other fields has enqueued it."
            ) from error
        raise  # the command's own error


def _result(value: Any) -> bytes | None:
    if value is None:
        return None
    try:
        data = orjson.dumps(arguments.encode(value))
        if len(data) <= conf.result_limit():
            return data
        logger.warning("a result of %d bytes is over JOBS['RESULT_LIMIT']: only its size is kept", len(data))
        return arguments.lost(f"<{type(value).__qualname__} of {len(data):,} bytes, over JOBS['RESULT_LIMIT']>")
    except Exception:  # SerializationError, or an error of the value's own code: the work is done all the same
        return arguments.lost(f"<{type(value).__qualname__}>")
