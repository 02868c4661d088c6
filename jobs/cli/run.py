"""`jobs run`: run a command by its name, in this process or as a job."""

import inspect
import time
from math import inf
from typing import Any

import orjson
from django.core.management.base import CommandError
from rq.results import Result

from jobs import queues, runtime
from jobs.attempts import reasons
from jobs.broker.times import UNSEEN
from jobs.cli import DONE, REFUSED
from jobs.cli.output import Output
from jobs.errors import SerializationError
from jobs.inspection import workers
from jobs.job import JobState, MandateJob
from jobs.record import arguments, registry
from jobs.record.states import ENDED

CHECK_EVERY = 500  # milliseconds, at most, between two checks of a job's state
SILENT = 2.0  # seconds without a word about a job that has not begun


def run(output: Output, options: dict[str, Any]) -> int:
    """Run a command in this process, or defer it."""
    name, opened = options["name"], runtime.open_transactions()
    command: Any = registry.get(name)
    args, kwargs = _read("--args", options["by_position"], list), _read("--kwargs", options["by_name"], dict)
    signature = inspect.signature(command)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        taken = signature.replace(return_annotation=signature.empty)
        raise CommandError(f"{name} cannot be run: {error}. It takes {taken}.") from None
    if options["defer"]:
        return _defer(output, options, command, args, kwargs, opened)
    for option in ("queue", "wait", "follow", "timeout"):
        if options[option] is not None and options[option] is not False:
            raise CommandError(f"--{option} needs --defer.")
    try:
        result = command.run(*args, **kwargs)
    except Exception as error:
        if options["traceback"]:
            raise
        raise CommandError(f"{name} failed: {reasons.reason_of(error)}") from error
    if output.as_json:
        output.json({"command": name, "result": _sendable(result)})
    else:
        output.say(f"{name} has finished." if result is None else f"{name} returned {result!r}.")
    return DONE


def _defer(
    output: Output, options: dict[str, Any], command: Any, args: list[Any], kwargs: dict[str, Any], opened: list[Any]
) -> int:
    timeout = options["timeout"]
    if timeout is not None and not options["follow"]:
        raise CommandError("--timeout needs --follow.")
    if timeout is not None and not 0 < timeout < inf:
        raise CommandError(f"--timeout {timeout:g} is impossible: it must be above 0 seconds.")
    deferral = command.using(queue=options["queue"], wait=options["wait"] or None)
    try:
        job: MandateJob = deferral.defer(*args, **kwargs)
    except TypeError as error:
        tip = 'Records and dates are written as in a payload: {"$record": "users.User:7"}, {"$date": "2026-07-01"}.'
        raise CommandError(f"{error} {tip}") from None
    for connection in runtime.open_transactions():
        if connection not in opened:  # without autocommit, fetching the arguments began it: nobody else ends it
            connection.commit()
    fields = {"id": job.id, "queue": job.origin, "duplicate": job.duplicate}
    if not options["follow"]:
        kind = "Enqueued: job"
        if job.duplicate:
            kind = "Collapsed into job" if command.collapse else "Already enqueued (the command is unique): job"
        output.json({**fields, "state": job.state}) if output.as_json else output.say(f"{kind} {job.id}.")
        return DONE
    state = _end_of(output, job, inf if timeout is None else timeout)
    if state is not None and state not in ENDED:
        raise CommandError(f"Job {job.id} is {state} after {timeout:g} s.")
    ended = state or JobState.FINISHED  # with `result_ttl` 0 the record is deleted at once
    if output.as_json:
        output.json({**fields, "state": ended, "reason": job.reason or ""})
    else:
        output.say(f"Job {job.id} is {ended}{f': {job.reason}' if job.reason else '.'}")
    return DONE if ended is JobState.FINISHED else REFUSED


def _end_of(output: Output, job: MandateJob, timeout: float) -> JobState | None:
    """
    Wait until the job has ended, for `timeout` seconds at most, and return its state. Wakes at each attempt's result,
    and polls for other ends. After SILENT seconds it reports why the job cannot begin.
    """
    results: str = Result.get_key(job.id)  # type: ignore[no-untyped-call]
    began, is_reported = time.monotonic(), False
    while (state := job.state) is not None and state not in ENDED:
        waited = time.monotonic() - began
        if waited >= SILENT and not is_reported and state is JobState.QUEUED:
            is_reported = True
            if obstacle := _obstacle(job.origin):
                output.complain(obstacle)
        if waited >= timeout:
            break
        block = max(1, int(min(CHECK_EVERY, (timeout - waited) * 1_000)))  # 0 would block for ever
        job.connection.xread({results: "$"}, block=block)
    return state


def _obstacle(queue: str) -> str:
    """Return why no job of a queue begins, and what to do; "" if a worker may begin it."""
    if queue in queues.paused():
        return f"The queue {queue!r} is paused. Resume it: python manage.py jobs resume {queue}"
    if not any(queue in worker.queues and worker.silence() <= UNSEEN for worker in workers.listed(jobs=0)):
        return f"No worker serves the queue {queue!r}. Start one: python manage.py rqworker {queue}"
    return ""


def _read(option: str, text: str, kind: type) -> Any:
    """Decode an option's JSON as in a payload: `{"$record": "users.User:7"}` is a record. CommandError if invalid."""
    expected = "a list, such as [7]" if kind is list else 'an object, such as {"force": true}'
    try:
        value = orjson.loads(text)
    except ValueError as error:
        raise CommandError(f"{option} {text!r} is not valid JSON: {error}. It must be {expected}.") from None
    if not isinstance(value, kind):
        raise CommandError(f"{option} {text!r} must be {expected}.")
    if isinstance(value, dict):
        return {field: arguments.decode(each) for field, each in value.items()}
    return arguments.decode(value)


def _sendable(result: Any) -> Any:
    try:
        return arguments.encode(result)
    except SerializationError:
        return type(result).__name__
