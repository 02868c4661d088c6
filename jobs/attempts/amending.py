"""
Jobs whose record differs from what their command is in this release: an older one has enqueued them. The record is
written, and the job goes back to where it belongs: no attempt, no start.
"""

from typing import Any

from jobs.attempts.claim import Claim
from jobs.attempts.current import Attempt
from jobs.attempts.outcomes import Amended
from jobs.broker.times import as_text
from jobs.limits import values
from jobs.record import arguments, more, payload
from jobs.safe_logging import safe_logger

logger = safe_logger("jobs")


def kind(claim: Claim, *, is_async: bool) -> Amended:
    """Return the outcome of a job whose record says that it is one for the event loop, or does not say so, wrongly."""
    if is_async:
        return Amended((more.FIELD, more.with_letter(claim.letters, more.ASYNC)))
    return Amended((more.FIELD, more.without(claim.letters, more.ASYNC) or more.FEW))


def lacks_limits(claim: Claim, command: Any) -> bool:
    """Whether a job lacks limits that its command declares, or its command's pause."""
    return values.lacks(type(command), as_text(claim.more.limits))


def limits(attempt: Attempt, command: Any, call: payload.Call) -> Amended:
    """Return the outcome of such a job. Raises PayloadError if a key's value cannot be computed."""
    args, kwargs = call.args, call.kwargs
    if call.is_tagged:
        args, named = arguments.decode([args, {"": kwargs}])
        kwargs = named[""]
    fields = values.of_job(command, args, kwargs, as_text(attempt.claim.more.limits))
    logger.info(
        "handed back: %s was deferred before its limits were declared, or its command is paused",
        attempt,
        extra=attempt.fields(),
    )
    return Amended(more.added((*fields, more.FIELD, attempt.claim.letters), more.LIMITS))
