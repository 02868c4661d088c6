"""`jobs run`: a command by its name, here or as a job."""

import inspect
from typing import Any

import orjson
from django.core.management.base import CommandError
from rq.results import Result

from jobs.attempts import failures
from jobs.cli import DONE, REFUSED
from jobs.cli.output import Output
from jobs.errors import SerializationError
from jobs.job import JobState, MandateJob
from jobs.record import arguments, registry
from jobs.record.states import ENDED

LOOK = 500  # milliseconds between two looks at a job's state, at the most


def run(output: Output, options: dict[str, Any]) -> int:
    """Run a command in this process, or defer it."""
    name = options["name"]
    command: Any = registry.get(name)
    args, kwargs = _read("--args", options["by_position"], list), _read("--kwargs", options["by_name"], dict)
    signature = inspect.signature(command)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        taken = signature.replace(return_annotation=signature.empty)
        raise CommandError(f"{name} cannot be run: {error}. It takes {taken}.") from None
    if options["defer"]:
        return _defer(output, options, command, args, kwargs)
    for option in ("queue", "wait", "follow"):
        if options[option]:
            raise CommandError(f"--{option} is for a job. Say --defer, too.")
    try:
        result = command.run(*args, **kwargs)
    except Exception as error:
        if options["traceback"]:
            raise
        raise CommandError(f"{name} failed: {failures.reason_of(error)}") from error
    if output.as_json:
        output.json({"command": name, "result": _sendable(result)})
    else:
        output.say(f"{name} has run." if result is None else f"{name} returned {result!r}.")
    return DONE


def _defer(output: Output, options: dict[str, Any], command: Any, args: list[Any], kwargs: dict[str, Any]) -> int:
    job: MandateJob = command.using(queue=options["queue"], wait=options["wait"] or None).defer(*args, **kwargs)
    told = {"id": job.id, "queue": job.origin, "duplicate": job.duplicate}
    if not options["follow"]:
        kind = "It is unique, and there already: job" if job.duplicate else "Enqueued: job"
        output.json({**told, "state": job.state}) if output.as_json else output.say(f"{kind} {job.id}.")
        return DONE
    state = _end_of(job)
    ended = state or JobState.FINISHED  # it is forgotten at once where `result_ttl` is 0
    if output.as_json:
        output.json({**told, "state": ended, "reason": job.reason or ""})
    else:
        output.say(f"Job {job.id} is {ended}{f': {job.reason}' if job.reason else '.'}")
    return DONE if ended is JobState.FINISHED else REFUSED


def _end_of(job: MandateJob) -> JobState | None:
    """How the job ends. Waits for that: each attempt's result is an entry of a stream, other ends are looked for."""
    results: str = Result.get_key(job.id)  # type: ignore[no-untyped-call]
    while (state := job.state) is not None and state not in ENDED:
        job.connection.xread({results: "$"}, block=LOOK)
    return state


def _read(option: str, text: str, kind: type) -> Any:
    """The arguments of one kind, written as in a payload: `{"$record": "users.User:7"}` is a record."""
    what = "a list, such as [7]" if kind is list else 'an object, such as {"force": true}'
    try:
        found = orjson.loads(text)
    except ValueError as error:
        raise CommandError(f"{option} {text!r} is no JSON: {error}. It must be {what}.") from None
    if not isinstance(found, kind):
        raise CommandError(f"{option} {text!r} must be {what}.")
    if isinstance(found, dict):
        return {field: arguments.decode(value) for field, value in found.items()}
    return arguments.decode(found)


def _sendable(result: Any) -> Any:
    try:
        return arguments.encode(result)
    except SerializationError:
        return type(result).__name__
