"""
One attempt of a job: it decides the outcome, and nothing else does.

`perform` is what a command's payload calls, whoever runs it; `attempt` is how our worker runs a claim.
"""

import logging
import traceback
import zlib
from typing import TYPE_CHECKING, Any, cast

import orjson
from rq.job import get_current_job

from jobs import allowed, arguments, logs, registry
from jobs.errors import MissingRecordError, PayloadError, SerializationError
from jobs.interrupt import Interruptible, JobInterrupt, Stopped
from jobs.job import MandateJob
from jobs.mandate import Mandate, finished, invoke
from jobs.outcomes import Dead, Discarded, Finished, Outcome

if TYPE_CHECKING:
    from jobs.worker.claim import Claim

logger = logging.getLogger("jobs")

UNREADABLE = "(unreadable)"  # what an attempt is counted under when its command is not known


def perform(name: str, /, *args: Any, **kwargs: Any) -> Any:
    """
    Run the command of that name with these arguments, as they lie in the payload, and return what it returns.

    Raises UnknownCommandError, PayloadError for arguments that cannot be read or do not fit the command any more,
    MissingRecordError when a record they refer to is gone, and whatever the command raises: a worker that is not ours
    never takes an attempt that did not succeed for one that did.
    """
    command = _build(name, list(args), kwargs, tagged=True)
    job = get_current_job()
    if isinstance(job, MandateJob):
        vars(command)["_job"] = job
    return invoke(command)


def attempt(claim: "Claim", thread: Interruptible) -> tuple[Outcome, str]:
    """Run a claimed command in this thread. Returns what it ended as, and the command's name; raises nothing."""
    name = UNREADABLE
    lines = logs.begin()
    try:
        payload, tagged = read(claim.data)
        name, *args = payload[2]
        command = _build(name, args, payload[3], tagged=tagged)
        vars(command)["_claim"] = claim
        if logger.isEnabledFor(logging.INFO):
            logger.info("performing %s (job %s) from %s", name, claim.job_id, claim.queue_name)
        run = thread.run_async if command.is_async else thread.run
        result = finished(command, run(claim, command.call))
    except MissingRecordError as error:
        logger.warning("discarded %s (job %s): %s", name, claim.job_id, error)
        return Discarded(str(error)), name
    except Stopped:
        logger.warning("dead: %s (job %s): stopped on request", name, claim.job_id)
        return Dead("stopped on request", traceback.format_exc(), "\n".join(lines)), name
    except JobInterrupt:
        limit = f"The attempt took longer than its {claim.limit:g} seconds."
        logger.error("dead: %s (job %s): %s", name, claim.job_id, limit)
        return Dead("timed out", f"{traceback.format_exc()}\n{limit}", "\n".join(lines)), name
    except BaseException as error:  # SystemExit too: a command must not end the worker
        logger.error("dead: %s (job %s)", name, claim.job_id, exc_info=True)
        return Dead(_reason(error), traceback.format_exc(), "\n".join(lines)), name
    finally:
        logs.end()
    kept = "\n".join(lines) if lines and command.keep_log else ""
    return Finished(_result(result) if claim.ttl else None, claim.ttl, kept), name


def read(data: bytes) -> tuple[list[Any], bool]:
    """
    A command's payload `[function, None, [name, *args], kwargs]`, and whether any argument in it is tagged.

    Raises PayloadError when it is nothing that `defer` wrote.
    """
    try:
        if data[:1] != b"[":
            data = zlib.decompress(data)
        payload = orjson.loads(data)
        function, instance, args, kwargs = payload
    except (zlib.error, ValueError, TypeError) as error:
        raise PayloadError(f"Malformed payload: {error}") from error
    if function != allowed.PERFORM or instance is not None:
        allowed.resolve(function if instance is None else instance)  # raises, unless it is a plain function's
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
    except TypeError as error:
        raise PayloadError(f"The payload's arguments do not fit {name}: {error}") from error


def _result(value: Any) -> bytes | None:
    if value is None:
        return None
    try:
        return orjson.dumps(arguments.encode(value))
    except SerializationError:
        return orjson.dumps(f"<{type(value).__qualname__}>")  # the work is done, whatever it returned


def _reason(error: BaseException) -> str:
    return f"{type(error).__qualname__}: {error}"[:500]
