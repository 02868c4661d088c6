"""Compares recorded jobs with the job that an assertion expects, and describes the differences."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils import timezone

from jobs.errors import JobsError, SerializationError
from jobs.record import arguments, display
from jobs.testing.recorded import Recorded, command_name

if TYPE_CHECKING:
    from jobs.mandate import Mandate

ANYTHING: Any = object()  # the default of a parameter that was not given
SLACK = 1.0  # seconds by which times may differ
MOST_SHOWN = 20  # jobs in the text of a failure


@dataclass(frozen=True)
class Within:
    """`within(5).of(time)`: matches times at most that many seconds from `time`."""

    seconds: float
    time: datetime | None = None

    def of(self, time: datetime) -> "Within":
        """Set the expected time."""
        return Within(self.seconds, aware(time))

    def __call__(self, at: datetime | None) -> bool:
        if self.time is None:
            raise TypeError("within(...) needs a time: within(1).of(time).")
        return at is not None and abs(at - self.time) <= timedelta(seconds=self.seconds)

    def __str__(self) -> str:
        return f"within {self.seconds:g} s of {self.time.isoformat() if self.time else '?'}"


def within(seconds: float | timedelta) -> Within:
    """Return a tolerance for `at=`: `at=within(1).of(timezone.now() + timedelta(minutes=5))`."""
    return Within(seconds.total_seconds() if isinstance(seconds, timedelta) else seconds)


def aware(time: datetime) -> datetime:
    """Make a time aware, as `defer` does: a naive one is in the current zone, but under USE_TZ a ValueError."""
    if not timezone.is_naive(time):
        return time
    if settings.USE_TZ:
        raise ValueError(f"{time!r} is naive. Give an aware datetime: timezone.now() + ...")
    return timezone.make_aware(time)


class Expected:
    """
    The expected job, of exactly one command: its arguments, its queue and its due time, each if given.

    Raises TypeError if `command` is not a command, and for arguments that it does not take.
    """

    def __init__(self, command: "type[Mandate]", *, args: Any, kwargs: Any, queue: Any, at: Any) -> None:
        self.command, self.name = command, command_name(command)
        self._args, self._kwargs, self._queue = args, kwargs, queue
        self._at = Within(SLACK).of(at) if isinstance(at, datetime) else at
        self._call: dict[str, Any] | None = None  # the values of all fields
        given = [value for value in (args, kwargs) if value is not ANYTHING]
        if given and not any(map(_is_function, given)):
            self._call = self._bound(() if args is ANYTHING else args, {} if kwargs is ANYTHING else kwargs)

    def differences(self, recorded: Recorded) -> list[str]:
        """Describe the differences of a job of this command, a line each. Empty if it is as expected."""
        lines = []
        if self._args is not ANYTHING or self._kwargs is not ANYTHING:
            try:
                lines += self._differing_arguments(recorded)
            except JobsError as error:  # a record is gone
                lines.append(f"its arguments cannot be read: {error}")
        if self._queue is not ANYTHING and not _fits(self._queue, recorded.queue):
            lines.append(f"queue is {recorded.queue}, not {_wanted(self._queue, str)}")
        if self._at is not ANYTHING and not _fits(self._at, recorded.at):
            lines.append(f"at is {_time(recorded.at)}, not {_wanted(self._at, _time)}")
        return lines

    def __str__(self) -> str:
        text = self.name + self._call_text()
        if self._queue is not ANYTHING:
            text += f" in {_wanted(self._queue, str)}"
        if self._at is not ANYTHING:
            text += ", due at once" if self._at is None else f", due {_wanted(self._at, _time)}"
        return text

    def _differing_arguments(self, recorded: Recorded) -> list[str]:
        if self._call is None:
            pairs = {"args": (self._args, recorded.args), "kwargs": (self._kwargs, recorded.kwargs)}
        else:
            actual = self._bound(recorded.args, recorded.kwargs)
            pairs = {name: (value, actual[name]) for name, value in self._call.items()}
        different = {name: pair for name, pair in pairs.items() if not _fits(*pair)}
        if not self.command.log_arguments:
            return [f"{name} differs" for name in different]
        return [f"{name} is {_text(actual)}, not {_wanted(wanted)}" for name, (wanted, actual) in different.items()]

    def _bound(self, args: Any, kwargs: Any) -> dict[str, Any]:
        """Return the values of all fields in a call, given by position or by name."""
        if isinstance(args, str) or not isinstance(args, Sequence) or not isinstance(kwargs, Mapping):
            raise TypeError(
                f"args={args!r}, kwargs={kwargs!r}: give a tuple of values, and a dict of names and values."
            )
        signature = inspect.signature(self.command)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            takes = signature.replace(return_annotation=signature.empty)
            raise TypeError(
                f"{self.name} cannot be called like that: {error}. It takes {takes}. "
                "Give the whole call, or a function of what is sent: kwargs=lambda kwargs: ..."
            ) from None
        made = {
            field.name: field.default_factory()
            for field in dataclasses.fields(self.command)  # type: ignore[arg-type]
            if field.default_factory is not dataclasses.MISSING and field.name not in bound.arguments
        }
        bound.apply_defaults()
        return dict(bound.arguments) | made

    def _call_text(self) -> str:
        if self._args is ANYTHING and self._kwargs is ANYTHING:
            return ""
        if not self.command.log_arguments:
            return "(...)"
        args = () if self._args is ANYTHING else self._args
        kwargs = {} if self._kwargs is ANYTHING else self._kwargs
        shown = [f"*{_name(args)}"] if _is_function(args) else [_text(value) for value in args]
        if _is_function(kwargs):
            shown.append(f"**{_name(kwargs)}")
        else:
            shown += [f"{name}={_text(value)}" for name, value in kwargs.items()]
        return f"({', '.join(shown)})"


def listed(recorded: Iterable[Recorded | str]) -> str:
    """List jobs for the text of a failure, a line each."""
    lines = [f"\n  {each}" for each in recorded]
    more = len(lines) - MOST_SHOWN
    return "".join(lines[:MOST_SHOWN]) + (f"\n  ... and {more} more" if more > 0 else "")


def _fits(wanted: Any, actual: Any) -> bool:
    if wanted is ANYTHING:
        return True
    return bool(wanted(actual)) if _is_function(wanted) else bool(wanted == actual)


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, type)


def _wanted(value: Any, text: Callable[[Any], str] | None = None) -> str:
    """Describe the expected value."""
    if isinstance(value, Within):
        return str(value)
    return f"what {_name(value)} accepts" if _is_function(value) else (text or _text)(value)


def _text(value: Any) -> str:
    """Show a value as the lists of jobs do: a record as its reference."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_text, value))})"
    if _is_function(value):
        return _name(value)
    try:
        return display.value(arguments.encode(value))
    except SerializationError:
        return repr(value)


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", repr(function)).rpartition(".")[2]


def _time(value: Any) -> str:
    return value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else str(value)
