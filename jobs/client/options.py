"""The options of command classes and of `defer`. Each value is checked where it is written, not in the worker."""

import inspect
from collections.abc import Callable
from datetime import datetime, timedelta
from numbers import Real
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS
from django.utils import timezone

from jobs import runtime, unrun
from jobs.errors import CommandDefinitionError
from jobs.limits.collapse import Collapse
from jobs.retries import CENTURY, RetryOn, seconds_of

DEFAULTS: dict[str, Any] = {
    # The queue that the command's jobs go to.
    "queue": "default",
    # Seconds that one attempt may take; None: no limit.
    "timeout": 180,
    # Retries after a failure that no rule claims, along the default curve; 0: the first failure is the last.
    "retries": 25,
    # Rules for errors: `[RetryOn(SomeError, wait=3, attempts=5)]`.
    "retry_on": (),
    # Errors after which the job is dropped, visibly: `[SomeError]`.
    "discard_on": (),
    # How often `requeue_job` may be called in one job's life; None: without end.
    "max_requeues": None,
    # Seconds, or a timedelta, within which a job must begin after it is due, or it is discarded; None: no limit.
    "expires_in": None,
    # Seconds, or a timedelta, during which at most one job with the same arguments is unfinished; None: any number.
    "unique_for": None,
    # Limits on how many jobs run at once or start in a time: `[Concurrency(1, key="shop"), Rate(40, per=60)]`.
    "limits": (),
    # When further jobs of one key collapse into the job that has not begun: `Collapse(wait=5, key="user")`.
    "collapse": None,
    # By what its jobs take turns in their queue: a field, or a static method that returns a key, or `(key, weight)`.
    "share": None,
    # Errors after which the command's limits pause: `{TooManyRequests: lambda error: error.retry_after}`, or seconds.
    "limit_on": {},
    # Whether a job is discarded when a record that its arguments refer to is gone; otherwise it fails.
    "guard_against_deserialization_errors": True,
    # Whether a job is in the database from `defer` on until Redis has it; needs JOBS["OUTBOX"].
    "durable": False,
    # Seconds that a finished job and its result are kept; 0: not at all.
    "result_ttl": 500,
    # Whether the last lines that `call` logged are kept for finished jobs, too; for failed jobs they always are.
    "keep_log": False,
    # The part of the attempts that is profiled, from 0 (none) to 1 (all).
    "profile_rate": 0.0,
    # Whether `defer` refuses arguments that have another type than their field's annotation.
    "strict_types": True,
    # Seconds that a job with steps may run at a stretch; then others get a turn: it goes to the tail of its queue.
    "max_runtime": None,
    # How often a job may go on from a checkpoint, after a stop or an error; None: without end.
    "resume_limit": None,
    # Names of steps in earlier releases, and their names in this one: `{"freeze": "lock"}`.
    "steps_renamed": {},
    # Whether arguments may be shown in logs and on the dashboard.
    "log_arguments": True,
    # Whether `call` runs in a transaction that commits its effects once: on the default database, or the alias given.
    "atomic": False,
}

# The attributes of the mixin, and the parameters of `defer` beside the command's own fields.
RESERVED = frozenset(
    (
        "job",
        "batch",
        "prepare",
        "call",
        "run",
        "arun",
        "defer",
        "adefer",
        "defer_many",
        "using",
        "requeue_job",
        "report",
        "step",
        "each",
        "slow_down",
        "context",
        "unique_key",
        "has_call",
        "is_async",
        "on_retry",
        "on_dead",
        "on_discard",
        "wait",
        "wait_until",
        "prereq_jobs",
        "prereq_failure",
        "profile",
        "spread",
    )
)


def check_fields(command: type) -> None:
    """Refuse fields that have the name of a class option, an option of `defer` or an attribute of the mixin."""
    for name in inspect.get_annotations(command):
        if name == "_":  # dataclasses.KW_ONLY
            continue
        if name in DEFAULTS or name in RESERVED or name.startswith("_"):
            raise CommandDefinitionError(
                f"{command.__qualname__}: a field cannot be called {name!r}, "
                + ("it is a class option: set it without an annotation." if name in DEFAULTS else "the name is taken.")
            )


def check_options(command: Any) -> None:
    """Refuse class options with invalid values, naming class, option and value."""

    def refuse(option: str, wanted: str) -> None:
        value = getattr(command, option)
        raise CommandDefinitionError(
            f"{command.__qualname__}: {option} = {value!r} is impossible. It must be {wanted}."
        )

    if not isinstance(command.queue, str) or not command.queue:
        refuse("queue", "the name of a queue")
    if command.timeout is not None and not (_is_number(command.timeout) and command.timeout > 0):
        refuse("timeout", "a number of seconds above 0, or None for no limit")
    if not (type(command.result_ttl) is int and command.result_ttl >= 0):
        refuse("result_ttl", "a whole number of seconds, 0 or more")
    if not (type(command.retries) is int and command.retries >= 0):
        refuse("retries", "a whole number, 0 or more")
    if not _is_list_of(command.retry_on, lambda rule: isinstance(rule, RetryOn)):
        refuse("retry_on", "a list of RetryOn(SomeError, ...)")
    if not _is_list_of(command.discard_on, lambda kind: isinstance(kind, type) and issubclass(kind, BaseException)):
        refuse("discard_on", "a list of exception classes")
    if both := {kind for rule in command.retry_on for kind in rule.errors} & set(command.discard_on):
        refuse("discard_on", f"free of what retry_on has: {', '.join(kind.__name__ for kind in both)}")
    if command.max_requeues is not None and not (type(command.max_requeues) is int and command.max_requeues >= 0):
        refuse("max_requeues", "a whole number, 0 or more, or None for no limit")
    if command.max_runtime is not None and not (_is_number(command.max_runtime) and command.max_runtime > 0):
        refuse("max_runtime", "a number of seconds above 0, or None for no limit")
    if command.resume_limit is not None and not (type(command.resume_limit) is int and command.resume_limit >= 0):
        refuse("resume_limit", "a whole number, 0 or more, or None for no limit")
    names = command.steps_renamed
    if not (isinstance(names, dict) and all(isinstance(name, str) for pair in names.items() for name in pair)):
        refuse("steps_renamed", "a dict of names of steps: {'the old one': 'the new one'}")
    for option in ("expires_in", "unique_for"):
        if getattr(command, option) is not None and not seconds_of(getattr(command, option)) > 0:
            refuse(option, "a number of seconds above 0, a timedelta, or None")
    if command.collapse is not None and not isinstance(command.collapse, Collapse):
        refuse("collapse", "Collapse(wait=..., key=...), or None")
    if command.collapse is not None and command.unique_for is not None:
        refuse("unique_for", "None beside collapse, which keeps one job of a key that has not begun")
    if not (_is_number(command.profile_rate) and 0 <= command.profile_rate <= 1):
        refuse("profile_rate", "a number from 0 to 1")
    if not (type(command.atomic) is bool or (isinstance(command.atomic, str) and command.atomic)):
        refuse("atomic", "True, False, or the alias of a database")
    for switch in ("keep_log", "log_arguments", "strict_types", "guard_against_deserialization_errors", "durable"):
        if type(getattr(command, switch)) is not bool:
            refuse(switch, "True or False")


def check_methods(command: Any) -> None:
    """
    Refuse methods whose body would not run when they are called, and a key of `collapse` that is no field.

    `call` and the hooks may be coroutine functions, which are run to completion. `unique_key` and `__post_init__` may
    not: `defer` calls them, and could not await them.

    Raises:
        CommandDefinitionError: names class and method, the problem and the remedy.
    """
    for name in ("call", "on_retry", "on_dead", "on_discard", "unique_key", "__post_init__"):
        kind = unrun.kind_of(inspect.getattr_static(command, name, None))
        if kind == unrun.COROUTINE and name == "call" and command.atomic:
            raise CommandDefinitionError(
                f"{command.__qualname__}.call is {kind}, and atomic = {command.atomic!r}: a transaction belongs to one "
                "thread. Make it a plain `def`, or put what belongs together into a command of its own."
            )
        if kind in (unrun.GENERATOR, unrun.ASYNC_GENERATOR):
            advice = "Do the work in it, without `yield`."
        elif kind and name in ("unique_key", "__post_init__"):
            advice = "Make it a plain `def`."
        else:
            continue
        raise CommandDefinitionError(
            f"{command.__qualname__}.{name} is {kind}: a call would not run its body. {advice}"
        )
    if command.collapse is not None and command.has_call():
        command.collapse.check(command)


def database_of(command: Any) -> str:
    """Return the alias of the database in which an atomic command, or its class, opens its transaction."""
    return DEFAULT_DB_ALIAS if command.atomic is True else str(command.atomic)


def leaves_rows(command: Any) -> bool:
    """Return whether the command's jobs leave receipts or cursors in a database: it is atomic, or may call `each`."""
    codes = [getattr(value, "__code__", None) for base in command.__mro__[:-1] for value in vars(base).values()]
    return bool(command.atomic) or any(code and "each" in code.co_names for code in codes)


def due(wait: float | timedelta | None, wait_until: datetime | None) -> float | None:
    """
    Return when a job is due, in seconds since the epoch; None for now.

    Raises ValueError for a negative or endless `wait`, for both at once, and for a `wait_until` that is naive under
    USE_TZ, or more than a century ahead.
    """
    if wait is not None and wait_until is not None:
        raise ValueError(f"wait={wait!r} and wait_until={wait_until!r} exclude each other. Give one.")
    if wait_until is not None:
        if not isinstance(wait_until, datetime):
            raise ValueError(f"wait_until={wait_until!r} is not a datetime.")
        if timezone.is_naive(wait_until):
            if settings.USE_TZ:
                raise ValueError(f"wait_until={wait_until!r} is naive. Give an aware datetime: timezone.now() + ...")
            try:
                wait_until = timezone.make_aware(wait_until)
            except OverflowError:
                raise _too_far("wait_until", wait_until) from None
        return bounded("wait_until", wait_until)
    if wait is None:
        return None
    delay = span("wait", wait)
    return runtime.now() + delay if delay else None


def check_collapse(command: Any, **given: object) -> None:
    """
    Refuse the options of `defer` that say when a job runs, for a command whose `collapse` says so: a push that
    collapses into another job would run before its own time, or before its own prerequisites. Raises ValueError.
    """
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"{name}={value!r} is impossible for {command.__qualname__}: its {command.collapse!r} decides when its "
                f"jobs run. Leave {name} out, or defer a command without `collapse`."
            )


def bounded(name: str, at: datetime) -> float:
    """Seconds since the epoch of a time (aware) for a job to be due at. ValueError naming it if it is too far ahead."""
    if at.timestamp() > runtime.now() + CENTURY:
        raise _too_far(name, at)
    return at.timestamp()


def _too_far(name: str, at: datetime) -> ValueError:
    return ValueError(f"{name}={at!r} is impossible. Give a time that is a century ahead at most.")


def switch(name: str, value: object) -> bool:
    """Return the value of an option that is True or False. ValueError, naming the option, for any other value."""
    if type(value) is not bool:
        raise ValueError(f"{name}={value!r} is impossible. Give True or False.")
    return value


def span(name: str, value: float | timedelta) -> float:
    """Return the seconds of an option: a number or a timedelta. ValueError, naming the option, for any other value."""
    if not seconds_of(value) >= 0:
        raise ValueError(f"{name}={value!r} is impossible. Give seconds, 0 or more, or a timedelta; a century at most.")
    return seconds_of(value)


def _is_list_of(value: object, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, list | tuple) and all(map(fits, value))


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
