"""One attempt of a job: what every command's payload calls."""

from typing import Any, cast

from rq.job import get_current_job

from jobs import arguments, registry
from jobs.errors import PayloadError
from jobs.job import MandateJob
from jobs.mandate import Mandate, invoke


def perform(name: str, /, *args: Any, **kwargs: Any) -> Any:
    """
    Run the command of that name with these arguments, as they lie in the payload, and return what it returns.

    Raises UnknownCommandError, PayloadError for arguments that cannot be read or do not fit the command any more,
    MissingRecordError when a record they refer to is gone, and whatever the command raises.
    """
    command = cast(type[Mandate], registry.get(name))
    positional, named = arguments.decode([list(args), {"named": kwargs}])
    try:
        instance = command(*positional, **named["named"])
    except TypeError as error:
        raise PayloadError(f"The payload's arguments do not fit {name}: {error}") from error
    job = get_current_job()
    if isinstance(job, MandateJob):
        vars(instance)["job"] = job
    return invoke(instance)
