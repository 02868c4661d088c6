"""Attempts that end because of a limit: not failures."""

from dataclasses import replace

from jobs.attempts.current import Attempt
from jobs.attempts.outcomes import Postponed, SlowedDown
from jobs.errors import OverLimitError
from jobs.limits import policy
from jobs.mandate import Mandate
from jobs.retries import Progress
from jobs.safe_logging import safe_logger
from jobs.steps.running import SlowDownRequested

logger = safe_logger("jobs")


def outcome(
    error: BaseException, attempt: Attempt, command: Mandate | None, progress: Progress
) -> SlowedDown | Postponed | None:
    """
    Return the outcome of an attempt after which its limits pause, or that a `limit` in it has refused; None for others.
    """
    again = replace(progress, attempts=progress.attempts + 1, since={})
    if isinstance(error, OverLimitError):
        logger.info("again in %.3g s: %s: %s", error.seconds, attempt, error, extra=attempt.fields())
        return Postponed(error.seconds, str(error), again)
    if command is not None and command.limit_on and isinstance(error, Exception):
        try:
            seconds = policy.pause_after(command, error)
        except Exception:
            logger.exception("limit_on of %s raised", type(command).__qualname__)
            return None
        if seconds is not None:
            error = SlowDownRequested(seconds, policy.numbers(command, ""))
    if not isinstance(error, SlowDownRequested):
        return None
    logger.info("slowed down by %s: its limits pause for %g s", attempt, error.delay, extra=attempt.fields())
    return SlowedDown(error.delay, error.numbers, again)
