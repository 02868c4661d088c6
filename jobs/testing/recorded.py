"""The records of enqueued and performed jobs, and the filters by which a test selects them."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from jobs import queues
from jobs.errors import JobsError
from jobs.job import MandateJob
from jobs.mandate import Mandate
from jobs.record import arguments, display, registry


@dataclass(frozen=True, eq=False)
class Recorded:
    """
    One push of a job into its queue or its schedule, or one attempt at it. `at` is when it is due; None: at once.

    `job` has its current state, reason, result and history.
    """

    job: MandateJob
    name: str  # the command's, `sample.WriteNote`
    queue: str
    at: datetime | None
    sent: tuple[list[Any], dict[str, Any]] = field(repr=False)  # the arguments as they lie in the payload

    @classmethod
    def of(cls, job: MandateJob, *, due: float | None) -> "Recorded":
        """Record a command's job. `due`: seconds since the epoch."""
        name, *args = job.args
        return cls(job, name, job.origin, None if due is None else datetime.fromtimestamp(due, UTC), (args, job.kwargs))

    @property
    def command(self) -> type | None:
        """The command's class; None if no installed app has it."""
        try:
            return registry.get(self.name)
        except JobsError:
            return None

    @property
    def args(self) -> tuple[Any, ...]:
        """Its positional arguments, as the job gets them: with records fetched. MissingRecordError if one is gone."""
        return tuple(arguments.decode(self.sent[0]))

    @property
    def kwargs(self) -> dict[str, Any]:
        """Its named arguments, as the job gets them."""
        return {name: arguments.decode(value) for name, value in self.sent[1].items()}

    def __str__(self) -> str:
        when = f", due {self.at.isoformat(timespec='seconds')}" if self.at else ""
        return f"{display.call(self.name, *self.sent)} in {self.queue}{when}"


Chosen = type | Collection[type] | Callable[[Recorded], bool] | None


class Wanted:
    """
    A filter of recorded jobs: by one command, by several, or by a function of the recorded job.

    A command matches exactly that class. Raises ValueError for `only` and `exclude` together, TypeError for a class
    that is not a command, and UnknownQueueError, because a test with a filter that never matches could not fail.
    """

    def __init__(self, only: Chosen = None, exclude: Chosen = None, queue: str | None = None) -> None:
        if only is not None and exclude is not None:
            raise ValueError("only and exclude exclude each other. Give one.")
        self._only, self._exclude = _function(only), _function(exclude)
        self._queue = None if queue is None else queues.check(queue)
        named = {"only": _named(only), "all but": _named(exclude), "in": queue}
        self._text = ", ".join(f"{word} {what}" for word, what in named.items() if what)

    def __call__(self, recorded: Recorded) -> bool:
        return (
            self._queue in (None, recorded.queue)
            and (self._only is None or bool(self._only(recorded)))
            and not (self._exclude is not None and self._exclude(recorded))
        )

    def __str__(self) -> str:
        return f" ({self._text})" if self._text else ""


def command_name(command: object) -> str:
    """Return a command's name. TypeError if it is not a command that can be deferred, such as a base without `call`."""
    if isinstance(command, type) and issubclass(command, Mandate) and command.has_call():
        return registry.name_of(command)
    raise TypeError(f"{command!r} is no command.")


def _function(chosen: Any) -> Callable[[Recorded], bool] | None:
    if chosen is None or (callable(chosen) and not isinstance(chosen, type)):
        return chosen
    commands = _commands(chosen)
    return lambda recorded: recorded.command in commands


def _commands(chosen: Any) -> list[type]:
    commands = list(chosen) if isinstance(chosen, Collection) else [chosen]
    for command in commands:
        command_name(command)
    return commands


def _named(chosen: Any) -> str:
    if chosen is None:
        return ""
    if callable(chosen) and not isinstance(chosen, type):
        return getattr(chosen, "__qualname__", repr(chosen))
    return " and ".join(map(command_name, _commands(chosen)))
