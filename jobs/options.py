"""What a command class may set and what `defer` takes; each value is checked where it is written, not in the worker."""

import inspect
import math
from datetime import datetime, timedelta
from numbers import Real
from time import time
from typing import Any

from django.conf import settings
from django.utils import timezone

from jobs.errors import CommandDefinitionError

DEFAULTS: dict[str, Any] = {
    # Which of the five queues the command's jobs go to.
    "queue": "default",
    # Seconds that one attempt may take; None: no limit.
    "timeout": 180,
    # Seconds that a finished job and its result stay visible; 0 forgets it at once.
    "result_ttl": 500,
    # Whether the last lines that `call` logged are kept with a job that finished, too; with a failed one they are.
    "keep_log": False,
    # Whether arguments may be shown in logs and on the dashboard.
    "log_arguments": True,
}

# What the mixin itself answers to, and what `defer` takes beside the command's own fields.
RESERVED = frozenset(
    (
        "job",
        "call",
        "run",
        "arun",
        "defer",
        "adefer",
        "defer_many",
        "using",
        "wait",
        "wait_until",
        "prereq_jobs",
    )
)


def check_fields(command: type) -> None:
    """Refuse fields that could not be told from an option of `defer` or an attribute of the mixin."""
    for name in inspect.get_annotations(command):
        if name == "_":  # dataclasses.KW_ONLY
            continue
        if name in DEFAULTS or name in RESERVED or name.startswith("_"):
            raise CommandDefinitionError(
                f"{command.__qualname__}: a field cannot be called {name!r}, "
                + ("it is a class option: set it without an annotation." if name in DEFAULTS else "the name is taken.")
            )


def check_options(command: Any) -> None:
    """Refuse class options with values that cannot work, naming class, option and value."""

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
    for switch in ("keep_log", "log_arguments"):
        if type(getattr(command, switch)) is not bool:
            refuse(switch, "True or False")


def due(wait: float | timedelta | None, wait_until: datetime | None) -> float | None:
    """
    When a job is due, in seconds since the epoch; None for now.

    Raises ValueError for a negative or endless `wait`, for both at once, and for a naive `wait_until` under USE_TZ.
    """
    if wait is not None and wait_until is not None:
        raise ValueError(f"wait={wait!r} and wait_until={wait_until!r} exclude each other. Give one.")
    if wait_until is not None:
        if not isinstance(wait_until, datetime):
            raise ValueError(f"wait_until={wait_until!r} is no datetime.")
        if timezone.is_naive(wait_until):
            if settings.USE_TZ:
                raise ValueError(f"wait_until={wait_until!r} is naive. Give an aware datetime: timezone.now() + ...")
            wait_until = timezone.make_aware(wait_until)
        return wait_until.timestamp()
    if wait is None:
        return None
    seconds = wait.total_seconds() if isinstance(wait, timedelta) else wait
    if not _is_number(seconds) or not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"wait={wait!r} is impossible. Give seconds, 0 or more, or a timedelta.")
    return time() + seconds if seconds else None


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
