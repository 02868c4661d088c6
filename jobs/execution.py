"""
One attempt of a job: it decides the outcome, and nothing else does; what follows a failure stands in `failures`.

`perform` is what a command's payload calls, whoever runs it; `attempt` is how our worker runs a claim.
"""

import inspect
import logging
import time
import zlib
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

import orjson
from rq.job import get_current_job

from jobs import logs
from jobs.attempts import failures, profiles
from jobs.attempts.interrupt import Interruptible, JobInterrupt, TimedOut
from jobs.attempts.outcomes import Finished, Outcome
from jobs.broker.connections import get_connection
from jobs.client.context import restored
from jobs.errors import NewerPayloadError, PayloadError, PrereqJobNotFinishedError
from jobs.job import MandateJob
from jobs.mandate import Mandate, finished, invoke
from jobs.record import allowlist, arguments, display, prerequisites, registry

if TYPE_CHECKING:
    from jobs.attempts.claim import Claim

logger = logging.getLogger("jobs")

_AS_IT_IS = nullcontext()


def perform(name: str, /, *args: Any, **kwargs: Any) -> Any:
    """
    Run the command of that name with these arguments, as they lie in the payload, and return what it returns.

    Raises PrereqJobNotFinishedError, UnknownCommandError, PayloadError for arguments that cannot be read or do not fit
    the command any more, MissingRecordError when a record they refer to is gone, and whatever the command raises: a
    worker that is not ours never takes an attempt that did not succeed for one that did.
    """
    job = get_current_job()
    if job is not None and (lacking := prerequisites.lacking(job.connection, job.id)):
        raise PrereqJobNotFinishedError(f"Unfinished job: {min(lacking)}")
    command = _build(name, list(args), kwargs, tagged=True)
    if isinstance(job, MandateJob):
        vars(command)["_job"] = job
    return invoke(command)


def attempt(claim: "Claim", thread: Interruptible) -> tuple[Outcome, str]:
    """Run a claimed command in this thread. Returns what it ended as, and the command's name; raises nothing."""
    current = logs.begin(claim)
    command = None
    try:
        payload, tagged = read(claim.data)
        current.command, *args = payload[2]
        more = claim.more
        if more.has_prerequisites and prerequisites.lacking(get_connection(claim.queue_name), claim.job_id):
            return failures.not_yet(current), current.command
        if more.expires_at and claim.is_expired:
            return failures.expired(current), current.command
        with restored(more.context) if more.context else _AS_IT_IS:
            command = _build(current.command, args, payload[3], tagged=tagged)
            vars(command)["_claim"] = claim
            told = logger.isEnabledFor(logging.INFO)
            if told:
                _tell_begin(current, args, payload[3])
            run: profiles.Run = thread.run_async if command.is_async else thread.run
            if more.profile or command.profile_rate or profiles.next_ones:
                run = profiles.profiled(run, current, command, asked=bool(more.profile))
            result = finished(command, run(claim, command.call))
            if told:
                spent = (time.monotonic() - claim.started) * 1_000
                logger.info("performed %s in %.0f ms", current, spent, extra=current.fields())
    except BaseException as error:  # SystemExit too: a command must not end the worker
        if isinstance(error, TimedOut):
            error = _with_text(error, claim)
        return failures.outcome(error, current, command), current.command
    finally:
        logs.end(current)
    log = "\n".join(current.lines) if current.lines and command.keep_log else ""
    return Finished(_result(result) if claim.ttl else None, claim.ttl, log), current.command


def given_up(claim: "Claim", kind: type[JobInterrupt]) -> tuple[Outcome, str]:
    """What a job ends as whose thread did not come back from an interrupt of that kind, and the command's name."""
    current = logs.begin(claim)
    try:
        current.command = read(claim.data)[0][2][0]
    except PayloadError:
        pass  # a plain RQ job
    finally:
        logs.end(current)
    error = failures.timed_out(claim.limit) if kind is TimedOut else kind()
    error.add_note("The thread did not come back either; where it was is in the worker's log.")
    return failures.outcome(error, current, None), current.command


def _with_text(error: TimedOut, claim: "Claim") -> TimedOut:
    """The interrupt, with the limit in its text: what is raised in another thread is a class."""
    worded = failures.timed_out(claim.limit).with_traceback(error.__traceback__)
    worded.__cause__, worded.__context__ = error.__cause__, error.__context__
    worded.__suppress_context__ = error.__suppress_context__
    return worded


def _tell_begin(current: logs.Attempt, args: list[Any], kwargs: dict[str, Any]) -> None:
    call = display.call(current.command, args, kwargs)
    logger.info("performing %s from %s: %s", current, current.claim.queue_name, call, extra=current.fields())


def read(data: bytes) -> tuple[list[Any], bool]:
    """
    A command's payload `[function, None, [name, *args], kwargs]`, and whether any argument in it is tagged.

    Raises PayloadError when it is nothing that `defer` wrote, NewerPayloadError when a newer release did.
    """
    try:
        if data[:1] != b"[":
            data = zlib.decompress(data)
        payload = orjson.loads(data)
        function, instance, args, kwargs = payload
    except (zlib.error, ValueError, TypeError) as error:
        raise PayloadError(f"Malformed payload: {error}") from error
    if function != allowlist.PERFORM or instance is not None:
        if (version := allowlist.version_of(function)) and version > allowlist.VERSION:
            raise NewerPayloadError(
                f"The payload is of version {version}, and this release reads up to {allowlist.VERSION}. "
                "Let workers of the release that enqueued it run it."
            )
        allowlist.resolve(function if instance is None else instance)  # raises, unless it is a plain function's
        raise PayloadError(f"The payload calls {function!r}, which is no command.")
    if not (isinstance(args, list) and args and isinstance(args[0], str) and isinstance(kwargs, dict)):
        raise PayloadError("Malformed payload: it names no command.")
    return payload, b'"$' in data


def _build(name: str, args: list[Any], kwargs: dict[str, Any], *, tagged: bool) -> Mandate:
    command = cast(type[Mandate], registry.get(name))
    if tagged:  # else the arguments are what JSON says they are
        args, named = arguments.decode([args, {"": kwargs}])
        kwargs = named[""]
    try:
        return command(*args, **kwargs)
    except TypeError:
        try:
            inspect.signature(command).bind(*args, **kwargs)
        except TypeError as error:
            raise PayloadError(f"The payload's arguments do not fit {name}: {error}") from error
        raise  # it is the command's own


def _result(value: Any) -> bytes | None:
    if value is None:
        return None
    try:
        return orjson.dumps(arguments.encode(value))
    except Exception:  # SerializationError, or what the value's own code raises: the work is done all the same
        return orjson.dumps(f"<{type(value).__qualname__}>")
