"""What a test is shown of a job that was enqueued or performed."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from jobs import arguments, logs, registry
from jobs.errors import JobsError
from jobs.job import MandateJob


@dataclass(frozen=True, eq=False)
class Recorded:
    """
    One push of a job into its queue or its schedule, or one attempt at it. `at` is when it is due; None for at once.

    `args` and `kwargs` are as the job will get them: decoded anew, records fetched fresh.
    """

    job: MandateJob
    queue: str
    at: datetime | None = None
    name: str = ""
    sent: tuple[list[Any], dict[str, Any]] = field(default=((), {}), repr=False)  # type: ignore[assignment]

    @classmethod
    def of(cls, job: MandateJob, *, due: float | None = None) -> "Recorded":
        """What is known of a job now. `due`: seconds since the epoch."""
        at = None if due is None else datetime.fromtimestamp(due, UTC)
        if job.func_name is None or job.command_name is None:
            return cls(job, job.origin, at, str(job.func_name), (list(job.args), dict(job.kwargs)))
        name, *args = job.args
        return cls(job, job.origin, at, name, (args, dict(job.kwargs)))

    @property
    def command(self) -> type | None:
        """The command's class; None when no installed app has it."""
        try:
            return registry.get(self.name)
        except JobsError:
            return None

    @property
    def args(self) -> tuple[Any, ...]:
        """Its positional arguments. MissingRecordError when a record is gone."""
        return tuple(arguments.decode(self.sent[0]))

    @property
    def kwargs(self) -> dict[str, Any]:
        """Its named arguments. MissingRecordError when a record is gone."""
        return {name: arguments.decode(value) for name, value in self.sent[1].items()}

    def __str__(self) -> str:
        when = f" at {self.at.isoformat(timespec='seconds')}" if self.at else ""
        return f"{logs.shown(self.name, *self.sent)} in {self.queue}{when}"


Chosen = type | Collection[type] | Callable[[Recorded], bool] | None
Wanted = Callable[[Recorded], bool]


def wanting(only: Chosen = None, exclude: Chosen = None, queue: str | None = None) -> Wanted:
    """
    Whether a recorded job is meant by these filters: a command, several commands, or a function of the recorded job.

    A command means exactly that class. ValueError for `only` and `exclude` together.
    """
    if only is not None and exclude is not None:
        raise ValueError("only and exclude cannot be given together.")

    def fits(recorded: Recorded) -> bool:
        if queue is not None and recorded.queue != queue:
            return False
        return (only is None or _means(only, recorded)) and (exclude is None or not _means(exclude, recorded))

    return fits


def _means(chosen: Any, recorded: Recorded) -> bool:
    if isinstance(chosen, type):
        return recorded.command is chosen
    if isinstance(chosen, Collection):
        return recorded.command in chosen
    return bool(chosen(recorded))
