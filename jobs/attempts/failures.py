"""Decides what follows a failed attempt: its outcome, its log line, hooks and handlers."""

import traceback
from asyncio import CancelledError
from dataclasses import replace
from typing import Any

from django.utils.module_loading import import_string
from redis.exceptions import RedisError

from jobs import conf, retries, runtime, unrun
from jobs.attempts import resumption, slowing
from jobs.attempts.current import Attempt
from jobs.attempts.interrupt import Stopped, TimedOut
from jobs.attempts.outcomes import Dead, Discarded, LeftOff, Outcome, Postponed, Requeued, Retried, Waiting
from jobs.attempts.reasons import REASON_LENGTH, leaves, reason_of
from jobs.broker import keys
from jobs.broker.connections import get_connection
from jobs.broker.times import DAY, iso
from jobs.errors import MissingRecordError, NewerPayloadError, PayloadError, UnknownCommandError
from jobs.inspection import error_counts, fingerprints
from jobs.inspection.version import release
from jobs.job import MandateJob
from jobs.mandate import Mandate
from jobs.record import display, registry
from jobs.retries import Progress
from jobs.safe_logging import safe_logger
from jobs.steps.record import Yielded
from jobs.steps.running import RequeueRequested

logger = safe_logger("jobs")

RECHECK_FOR = 5.0  # seconds in which a missing record may still arrive: replicas lag
RECHECK_EVERY = 1.0  # seconds
UNKNOWN_FOR = float(DAY)  # seconds that an unknown command or a newer payload waits for a newer release
UNKNOWN_AT_MOST = 600.0  # seconds between two attempts at it


def outcome(error: BaseException, attempt: Attempt, command: Mandate | None) -> Outcome:
    """
    Return the outcome of an attempt that raised `error`. Logs it, and calls the command's hooks and the handlers.
    `command` is None if its arguments could not be loaded.
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
    if slowed := slowing.outcome(error, attempt, command, progress):
        return slowed
    if isinstance(error, RequeueRequested) and command is not None:
        return _requeued(error, attempt, command, progress)
    if isinstance(error, Stopped):
        return _stopped(error, attempt, command)
    if isinstance(error, Yielded) and command is not None:
        return _left_off(error, attempt, command)
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
    """Return the outcome of a job that was put into its queue before its prerequisites were done."""
    logger.info("waiting: %s has unfinished prerequisites", attempt, extra=attempt.fields())
    return Waiting()


def expired(attempt: Attempt) -> Discarded:
    """Return the outcome of a job that no worker has begun in time."""
    reason = f"expired: not begun by {iso(float(attempt.claim.more.expires_at))}"
    logger.warning("discarded %s: %s", attempt, reason, extra=attempt.fields())
    return Discarded(reason, expired=True)


def timed_out(limit: float | None) -> TimedOut:
    """Build the error of an attempt that was interrupted at its time-out, or that the interrupt could not end."""
    return TimedOut(f"The attempt took longer than its {limit or 0:g} seconds.")


def _meant(error: BaseException, attempt: Attempt) -> BaseException:
    """
    Return what a group of errors means. An interruption always takes precedence. Requeues and ends at checkpoints count
    beside one another and cancellations alone; the first counts. Beside any other error the attempt has failed.
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
    asked = [each for each in members if isinstance(each, RequeueRequested | Yielded)]
    others = [each for each in members if not isinstance(each, RequeueRequested | Yielded | CancelledError)]
    return asked[0] if asked and not others else error


# --- outcomes --------------------------------------------------------------------------------


def _stopped(error: Stopped, attempt: Attempt, command: Mandate | None) -> Dead:
    """
    Return the outcome of a stopped attempt. RQ's command stops it; or the job was cancelled or deleted, and then this
    outcome is refused, and no hook or handler is called.
    """
    claim = attempt.claim
    try:
        client = get_connection(claim.queue_name)
        is_held = client.zscore(keys.registry("wip", claim.queue_name), b"%b:%b" % (claim.id, claim.execution))
    except RedisError:
        is_held = 0.0  # assume so
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


def _left_off(error: Yielded, attempt: Attempt, command: Mandate) -> Outcome:
    if not error.is_refused and (refused := resumption.refused(attempt.claim, command)):
        return _dead(error, attempt, command, f"{refused}: {error}")
    logger.info("left off %s: %s", attempt, error, extra=attempt.fields())
    return LeftOff(f"{error}{resumption.place(attempt.claim)}", error.at_tail)


def _unknown(error: PayloadError, attempt: Attempt, progress: Progress) -> Outcome:
    """Retry a job that a newer release may have written: its deployment may be under way."""
    now, what = runtime.now(), "unknown command" if isinstance(error, UnknownCommandError) else "newer payload"
    since = progress.since.get("command", now)
    if now - since >= UNKNOWN_FOR:
        return _dead(error, attempt, None, f"{what}: {reason_of(error)}")
    tries = progress.failures.get("command", 0)
    delay = min(UNKNOWN_AT_MOST, 15.0 * 2 ** min(tries, 10))
    logger.warning("%s in job %s, again in %g s: %s", what, attempt.claim.job_id, delay, error)
    again = replace(progress, failures={**progress.failures, "command": tries + 1}, since={"command": since})
    return Retried(delay, what, _traceback(error), again)


def _recheck(error: MissingRecordError, attempt: Attempt, progress: Progress) -> Postponed | None:
    now = runtime.now()
    since = progress.since.get("records", now)
    if now - since >= RECHECK_FOR:
        return None
    delay = min(RECHECK_EVERY, since + RECHECK_FOR - now)  # so that the last check is made as RECHECK_FOR ends
    logger.info("looking again in %.3g s: %s: %s", delay, attempt, error, extra=attempt.fields())
    return Postponed(delay, str(error)[:REASON_LENGTH], replace(progress, since={"records": since}))


def _failed(error: BaseException, attempt: Attempt, command: Mandate | None, progress: Progress) -> Outcome:
    policy, reason = _policy(attempt, command), reason_of(error)
    verdict = retries.decide(error, policy, resumption.afresh(progress, attempt.claim))
    if isinstance(verdict, retries.Retry) and (refused := resumption.refused_after_error(attempt.claim, policy)):
        verdict, reason = retries.GiveUp(), f"{refused}: {reason}"
    if isinstance(verdict, retries.Drop):
        return _discarded(reason_of(error), attempt, command)
    _notify("ON_FAILURE", attempt, error)
    if isinstance(verdict, retries.GiveUp):
        return _dead(error, attempt, command, reason)
    logger.warning(
        "retrying %s in %.0f s due to %s",
        *(attempt, verdict.delay, reason_of(error)),
        extra=attempt.fields(),
    )
    _hook(command, "on_retry", error, attempt.number, verdict.delay)
    log = "\n".join(attempt.lines)
    traceback, fingerprint = _traceback(error), _fingerprint(error, attempt)
    return Retried(verdict.delay, reason, traceback, verdict.progress, log, fingerprint)


def _dead(error: BaseException, attempt: Attempt, command: Mandate | None, reason: str) -> Dead:
    logger.error("dead: %s: %s", attempt, reason, exc_info=error, extra=attempt.fields())
    _hook(command, "on_dead", error)
    _notify("ON_DEAD", attempt, error)
    log, fingerprint = "\n".join(attempt.lines), _fingerprint(error, attempt)
    return Dead(reason[:REASON_LENGTH], _traceback(error), log, attempt.number, fingerprint)


def _discarded(reason: str, attempt: Attempt, command: Mandate | None) -> Discarded:
    logger.warning("discarded %s: %s", attempt, reason, extra=attempt.fields())
    _hook(command, "on_discard", reason)
    return Discarded(reason[:REASON_LENGTH])


def _policy(attempt: Attempt, command: Mandate | None) -> Any:
    """Return the command or class whose options apply: the command's class if the command could not be built."""
    if command is not None:
        return command
    try:
        return registry.get(attempt.command)
    except UnknownCommandError:
        return Mandate


def _fingerprint(error: BaseException, attempt: Attempt) -> str:
    """Count the error under its fingerprint, and return that; "" if it could not be read."""
    try:
        found = fingerprints.of(error, reason_of(error))
        if runtime.stand_in is None:
            claim, command = attempt.claim, attempt.command
            counted = command if registry.knows(command) else display.UNKNOWN
            error_counts.record(get_connection(claim.queue_name), found, counted, release(), claim.job_id)
    except RedisError:  # a figure is lost, and the server is asked again for the outcome
        return found.id
    except BaseException:  # whatever an error's own code raises
        return ""
    return found.id


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except BaseException as unshown:  # an error's own code may raise, and so may that which finds its source
        return f"{reason_of(error)}\n(its traceback cannot be shown: {reason_of(unshown)})"


# --- hooks and handlers ----------------------------------------------------------------------


def _hook(command: Mandate | None, name: str, *about: Any) -> None:
    if command is None:
        return
    try:
        unrun.call(getattr(command, name), *about, name=f"{type(command).__qualname__}.{name}")
    except BaseException:  # a hook's error does not change the outcome
        logger.exception("%s of %s raised", name, type(command).__qualname__)


def _notify(setting: str, attempt: Attempt, error: BaseException) -> None:
    if conf.get(setting):
        claim = attempt.claim
        client = get_connection(claim.queue_name)
        job = MandateJob.handle(claim.job_id, queue=claim.queue_name, payload=claim.payload, connection=client)
        job.is_written = True
        notify(setting, job, error)


def notify(setting: str, job: MandateJob, error: BaseException) -> None:
    """Call the project's handlers of a setting, `ON_FAILURE` or `ON_DEAD`. Raises nothing."""
    for path in conf.get(setting):
        try:
            unrun.call(import_string(path), job, error, name=path)
        except BaseException:
            logger.exception('the handler %s of JOBS["%s"] raised', path, setting)
