"""What an attempt that did not come to its end is followed by: the outcome, its log line, and who is told."""

import traceback
from asyncio import CancelledError
from dataclasses import replace
from typing import Any

from django.utils.module_loading import import_string
from redis.exceptions import RedisError

from jobs import conf, retries, runtime, unrun
from jobs.attempts.current import Attempt
from jobs.attempts.interrupt import Stopped, TimedOut
from jobs.attempts.outcomes import Dead, Discarded, Outcome, Postponed, Requeued, Retried, Waiting
from jobs.broker import keys
from jobs.broker.connections import get_connection
from jobs.broker.times import DAY, iso
from jobs.errors import MissingRecordError, NewerPayloadError, PayloadError, UnknownCommandError
from jobs.job import MandateJob
from jobs.mandate import Mandate, RequeueRequested
from jobs.record import registry
from jobs.retries import Progress
from jobs.telling import teller

logger = teller("jobs")

REASON_LENGTH = 500  # characters
RECHECK_FOR = 5.0  # seconds that a missing record may still come: replicas lag
RECHECK_EVERY = 1.0  # seconds
UNKNOWN_FOR = float(DAY)  # seconds that an unknown command or a newer payload waits for a newer release
UNKNOWN_AT_MOST = 600.0  # seconds between two looks for it


def outcome(error: BaseException, attempt: Attempt, command: Mandate | None) -> Outcome:
    """
    What follows this error; logged, and told to the command's hooks and the project's handlers.

    `command` is None when it was not built yet: then the arguments could not be loaded.
    """
    try:
        return _outcome(error, attempt, command)
    except BaseException as undecided:
        return undecided_by(undecided, attempt)


def undecided_by(error: BaseException, attempt: Attempt) -> Dead:
    """What an attempt ends as when nothing else can be made of it, since something raised that must not."""
    reason = f"its outcome could not be made: {reason_of(error)}"
    logger.error("dead: %s: %s", attempt, reason, exc_info=error, extra=attempt.fields())
    return Dead(reason[:REASON_LENGTH], _traceback(error), "", attempt.number)


def _outcome(error: BaseException, attempt: Attempt, command: Mandate | None) -> Outcome:
    error = _meant(error, attempt)
    try:
        progress = attempt.claim.progress
    except ValueError as unreadable:
        return _dead(unreadable, attempt, command, f"unreadable progress: {unreadable}")
    if isinstance(error, RequeueRequested) and command is not None:
        return _requeued(error, attempt, command, progress)
    if isinstance(error, Stopped):
        return _stopped(error, attempt, command)
    if command is None:
        if isinstance(error, UnknownCommandError | NewerPayloadError):
            return _unknown(error, attempt, progress)
        if isinstance(error, PayloadError):
            return _dead(error, attempt, command, reason_of(error))
        if isinstance(error, MissingRecordError) and (early := _recheck(error, attempt, progress)):
            return early
        if isinstance(error, MissingRecordError) and _policy(attempt, command).guard_against_deserialization_errors:
            return _discarded(str(error), attempt, command)
    return _failed(error, attempt, command, progress)


def not_yet(attempt: Attempt) -> Waiting:
    """A job whose prerequisites are not done, but which somebody has put into its queue."""
    logger.info("waiting: %s has unfinished prerequisites", attempt, extra=attempt.fields())
    return Waiting()


def expired(attempt: Attempt) -> Discarded:
    """A job that nobody has begun in time."""
    reason = f"expired: not begun by {iso(float(attempt.claim.more.expires_at))}"
    logger.warning("discarded %s: %s", attempt, reason, extra=attempt.fields())
    return Discarded(reason, expired=True)


def timed_out(limit: float | None) -> TimedOut:
    """The error of an attempt that was interrupted at its time-out, or that did not even come back from that."""
    return TimedOut(f"The attempt took longer than its {limit or 0:g} seconds.")


def reason_of(error: BaseException) -> str:
    """An error in a line: its class and text; of a group its members, too, however deep they lie."""
    try:
        text = _members(error) if isinstance(error, BaseExceptionGroup) else str(error)
    except BaseException:
        text = "(its text cannot be made)"
    return f"{type(error).__qualname__}: {text}"[:REASON_LENGTH]


def _members(group: BaseExceptionGroup[BaseException]) -> str:
    members = leaves(group)
    shown = "; ".join(reason_of(member) for member in members[:REASON_LENGTH])
    return f"{group.message} ({len(members)}): {shown}"


def leaves(error: BaseException) -> list[BaseException]:
    """The plain errors of a group in their order, however deep they lie; the error itself if it is no group."""
    found, left = [], [error]
    while left:
        each = left.pop()
        if isinstance(each, BaseExceptionGroup):
            left += reversed(each.exceptions)
        else:
            found.append(each)
    return found


def _meant(error: BaseException, attempt: Attempt) -> BaseException:
    """
    The interruption or the requeue that a group of errors stands for: a TaskGroup wraps what its tasks raise.

    An interruption counts whatever is beside it. A requeue counts if there are only requeues and cancellations; the
    first one gives the wait. Beside a real error it does not: the attempt has failed with the group.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    members = leaves(error)
    if stopped := next((each for each in members if isinstance(each, Stopped)), None):
        return stopped
    if any(isinstance(each, TimedOut) for each in members):
        late = timed_out(attempt.claim.limit).with_traceback(error.__traceback__)
        late.add_note(f"It came in a group: {reason_of(error)}")
        return late
    requeues = [each for each in members if isinstance(each, RequeueRequested)]
    others = [each for each in members if not isinstance(each, RequeueRequested | CancelledError)]
    return requeues[0] if requeues and not others else error


# --- the ways on -----------------------------------------------------------------------------


def _stopped(error: Stopped, attempt: Attempt, command: Mandate | None) -> Dead:
    """By RQ's command; or because it was cancelled or deleted: then this outcome is refused, and nobody is told."""
    claim = attempt.claim
    try:
        client = get_connection(claim.queue_name)
        is_held = client.zscore(keys.registry("wip", claim.queue_name), b"%b:%b" % (claim.id, claim.execution))
    except RedisError:
        is_held = 0.0  # so it seems
    if is_held is not None:
        return _dead(error, attempt, command, "stopped on request")
    logger.info("interrupted %s: it was cancelled", attempt, extra=attempt.fields())
    return Dead("stopped on request", "", attempt=attempt.number)


def _requeued(error: RequeueRequested, attempt: Attempt, command: Mandate, progress: Progress) -> Outcome:
    most = command.max_requeues
    if most is not None and progress.requeues >= most:
        return _dead(error, attempt, command, f"requeued more than its {most} times")
    logger.info("requeued %s: again in %g s", attempt, error.delay, extra=attempt.fields())
    return Requeued(
        error.delay,
        replace(progress, attempts=progress.attempts + 1, requeues=progress.requeues + 1, since={}),
    )


def _unknown(error: PayloadError, attempt: Attempt, progress: Progress) -> Outcome:
    """What a newer release has written: one may be rolling out."""
    now, what = runtime.now(), "unknown command" if isinstance(error, UnknownCommandError) else "newer payload"
    since = progress.since.get("command", now)
    if now - since >= UNKNOWN_FOR:
        return _dead(error, attempt, None, f"{what}: {reason_of(error)}")
    looks = progress.failures.get("command", 0)
    delay = min(UNKNOWN_AT_MOST, 15.0 * 2 ** min(looks, 10))
    logger.warning("%s in job %s, again in %g s: %s", what, attempt.claim.job_id, delay, error)
    again = replace(progress, failures={**progress.failures, "command": looks + 1}, since={"command": since})
    return Retried(delay, what, _traceback(error), again)


def _recheck(error: MissingRecordError, attempt: Attempt, progress: Progress) -> Postponed | None:
    now = runtime.now()
    since = progress.since.get("records", now)
    if now - since >= RECHECK_FOR:
        return None
    logger.info("looking again in %g s: %s: %s", RECHECK_EVERY, attempt, error, extra=attempt.fields())
    return Postponed(RECHECK_EVERY, str(error)[:REASON_LENGTH], replace(progress, since={"records": since}))


def _failed(error: BaseException, attempt: Attempt, command: Mandate | None, progress: Progress) -> Outcome:
    verdict = retries.decide(error, _policy(attempt, command), progress)
    if isinstance(verdict, retries.Drop):
        return _discarded(reason_of(error), attempt, command)
    _tell("ON_FAILURE", attempt, error)
    if isinstance(verdict, retries.GiveUp):
        return _dead(error, attempt, command, reason_of(error))
    logger.warning(
        "retrying %s after %d attempts in %.0f s due to %s",
        *(attempt, attempt.number, verdict.delay, reason_of(error)),
        extra=attempt.fields(),
    )
    _hook(command, "on_retry", error, attempt.number, verdict.delay)
    return Retried(verdict.delay, reason_of(error), _traceback(error), verdict.progress, "\n".join(attempt.lines))


def _dead(error: BaseException, attempt: Attempt, command: Mandate | None, reason: str) -> Dead:
    logger.error("dead: %s: %s", attempt, reason, exc_info=error, extra=attempt.fields())
    _hook(command, "on_dead", error)
    _tell("ON_DEAD", attempt, error)
    return Dead(reason[:REASON_LENGTH], _traceback(error), "\n".join(attempt.lines), attempt.number)


def _discarded(reason: str, attempt: Attempt, command: Mandate | None) -> Discarded:
    logger.warning("discarded %s: %s", attempt, reason, extra=attempt.fields())
    _hook(command, "on_discard", reason)
    return Discarded(reason[:REASON_LENGTH])


def _policy(attempt: Attempt, command: Mandate | None) -> Any:
    """Whose class options count: those of the command, even if it could not be built."""
    if command is not None:
        return command
    try:
        return registry.get(attempt.command)
    except UnknownCommandError:
        return Mandate


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except BaseException as unshown:  # an error's own code may raise, and so may that which finds its source
        return f"{reason_of(error)}\n(its traceback cannot be shown: {reason_of(unshown)})"


# --- who is told -----------------------------------------------------------------------------


def _hook(command: Mandate | None, name: str, *about: Any) -> None:
    if command is None:
        return
    try:
        unrun.call(getattr(command, name), *about, name=f"{type(command).__qualname__}.{name}")
    except BaseException:  # a hook changes nothing, whatever it does
        logger.exception("%s of %s raised", name, type(command).__qualname__)


def _tell(setting: str, attempt: Attempt, error: BaseException) -> None:
    if conf.get(setting):
        claim = attempt.claim
        client = get_connection(claim.queue_name)
        job = MandateJob.handle(claim.job_id, queue=claim.queue_name, payload=claim.payload, connection=client)
        job.is_written = True
        tell(setting, job, error)


def tell(setting: str, job: MandateJob, error: BaseException) -> None:
    """Call the project's handlers of that setting, `ON_FAILURE` or `ON_DEAD`. Raises nothing."""
    for path in conf.get(setting):
        try:
            unrun.call(import_string(path), job, error, name=path)
        except BaseException:
            logger.exception('the handler %s of JOBS["%s"] raised', path, setting)
