"""What a test says about jobs. Each assertion is a call, and, in a `with`, looks only at what its block enqueued."""

import dis
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from jobs.job import MandateJob
from jobs.testing.recorded import Chosen, Recorded, wanting

if TYPE_CHECKING:
    from jobs.mandate import Mandate

ANYTHING: Any = object()  # what was not given
SLACK = 1.0  # seconds by which times may differ


@dataclass(frozen=True)
class Within:
    """`within(5).of(time)`: a time that is at most so many seconds from that one."""

    seconds: float
    time: datetime | None = None

    def of(self, time: datetime) -> "Within":
        """The time that is meant."""
        return Within(self.seconds, time)

    def __call__(self, at: datetime | None) -> bool:
        if self.time is None:
            raise TypeError("within(...) needs a time: within(1).of(time).")
        return at is not None and abs(at - self.time) <= timedelta(seconds=self.seconds)


def within(seconds: float | timedelta) -> Within:
    """The tolerance of an `at=`: `at=within(1).of(timezone.now() + timedelta(minutes=5))`."""
    return Within(seconds.total_seconds() if isinstance(seconds, timedelta) else seconds)


class Assertions:
    """The assertions, over what a kit has recorded."""

    enqueued_jobs: list[Recorded]
    performed_jobs: list[Recorded]

    def assert_enqueued_with(
        self,
        command: "type[Mandate]",
        *,
        args: Any = ANYTHING,
        kwargs: Any = ANYTHING,
        queue: Any = ANYTHING,
        at: Any = ANYTHING,
    ) -> Any:
        """
        A job of exactly this command was enqueued, with these arguments, to this queue, due at this time.

        What is not given does not matter. Each value may be a callable that is given the actual one. `args` and
        `kwargs` are compared as the call they make: a field may be given in either. Times match within a second, or
        `within(seconds).of(time)`; `at=None` is a job without a wait. Returns the job (in a `with`, it is the `job` of
        what `as` names, after the block).
        """
        look = _with(command, args, kwargs, queue, at, "enqueued")
        return _asserted(sys._getframe(1), lambda: self.enqueued_jobs, look)

    def assert_performed_with(
        self,
        command: "type[Mandate]",
        *,
        args: Any = ANYTHING,
        kwargs: Any = ANYTHING,
        queue: Any = ANYTHING,
        at: Any = ANYTHING,
    ) -> Any:
        """The same for a job that was performed, to whatever end."""
        look = _with(command, args, kwargs, queue, at, "performed")
        return _asserted(sys._getframe(1), lambda: self.performed_jobs, look)

    def assert_enqueued_jobs(
        self, number: int, *, only: Chosen = None, exclude: Chosen = None, queue: str | None = None
    ) -> Any:
        """So many jobs were enqueued: each push counts, performed ones and requeues too."""
        look = _counted(number, wanting(only, exclude, queue), "enqueued")
        return _asserted(sys._getframe(1), lambda: self.enqueued_jobs, look)

    def assert_performed_jobs(
        self, number: int, *, only: Chosen = None, exclude: Chosen = None, queue: str | None = None
    ) -> Any:
        """So many attempts were performed."""
        look = _counted(number, wanting(only, exclude, queue), "performed")
        return _asserted(sys._getframe(1), lambda: self.performed_jobs, look)

    def assert_no_enqueued_jobs(self, *, only: Chosen = None, exclude: Chosen = None, queue: str | None = None) -> Any:
        """No job was enqueued."""
        look = _counted(0, wanting(only, exclude, queue), "enqueued")
        return _asserted(sys._getframe(1), lambda: self.enqueued_jobs, look)

    def assert_no_performed_jobs(self, *, only: Chosen = None, exclude: Chosen = None, queue: str | None = None) -> Any:
        """No job was performed."""
        look = _counted(0, wanting(only, exclude, queue), "performed")
        return _asserted(sys._getframe(1), lambda: self.performed_jobs, look)


Look = Callable[[Sequence[Recorded]], MandateJob | None]


class Block:
    """An assertion in a `with`. `job` is what it found, once the block has ended."""

    job: MandateJob | None = None

    def __init__(self, recorded: Callable[[], list[Recorded]], look: Look) -> None:
        self._recorded, self._look = recorded, look

    def __enter__(self) -> "Block":
        self._before = len(self._recorded())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if error is None:
            self.job = self._look(self._recorded()[self._before :])


def _asserted(caller: FrameType, recorded: Callable[[], list[Recorded]], look: Look) -> Any:
    return Block(recorded, look) if is_entered(caller) else look(recorded())


def is_entered(caller: FrameType) -> bool:
    """
    Whether the call that this frame is making stands in a `with`, so that what it returns is entered next.

    Read from the frame's code: what comes after a call in a `with` is the entering (BEFORE_WITH up to Python 3.13; from
    3.14 on a copy of the manager, to look its methods up).
    """
    following = (i for i in dis.get_instructions(caller.f_code) if i.offset > caller.f_lasti and i.opname != "CACHE")
    first, second = next(following, None), next(following, None)
    if first is None:
        return False
    return first.opname == "BEFORE_WITH" or (
        first.opname == "COPY" and second is not None and second.opname == "LOAD_SPECIAL"
    )


def _counted(number: int, wanted: Callable[[Recorded], bool], verb: str) -> Look:
    def look(recorded: Sequence[Recorded]) -> None:
        found = [each for each in recorded if wanted(each)]
        if len(found) != number:
            raise AssertionError(f"{len(found)} jobs were {verb}, not {number}.{_listed(found or recorded, verb)}")

    return look


def _with(command: "type[Mandate]", args: Any, kwargs: Any, queue: Any, at: Any, verb: str) -> Look:
    def look(recorded: Sequence[Recorded]) -> MandateJob:
        for each in recorded:
            if each.command is command and not _differences(each, args, kwargs, queue, at):
                return each.job
        of_command = [each for each in recorded if each.command is command]
        wanted = _shown(command, args, kwargs, queue, at)
        if of_command:
            lines = "".join(f"\n  {each}: {_differences(each, args, kwargs, queue, at)}" for each in of_command)
            raise AssertionError(f"No such job was {verb}: {wanted}.\nOf that command there was:{lines}")
        raise AssertionError(f"No such job was {verb}: {wanted}.{_listed(recorded, verb)}")

    return look


def _differences(each: Recorded, args: Any, kwargs: Any, queue: Any, at: Any) -> str:
    """What of a job is not as expected, in words; empty when all is."""
    found = []
    if args is not ANYTHING or kwargs is not ANYTHING:
        found += _differing_arguments(each, args, kwargs)
    if queue is not ANYTHING and not _fits(queue, each.queue):
        found.append(f"queue is {each.queue!r}")
    if at is not ANYTHING and not _fits(Within(SLACK, at) if isinstance(at, datetime) else at, each.at):
        found.append(f"at is {each.at.isoformat() if each.at else None}")
    return ", ".join(found)


def _differing_arguments(each: Recorded, args: Any, kwargs: Any) -> list[str]:
    if callable(args) or callable(kwargs):
        pairs = (("args", args, each.args), ("kwargs", kwargs, each.kwargs))
        return [f"{name} is {actual!r}" for name, wanted, actual in pairs if not _fits(wanted, actual)]
    signature = inspect.signature(each.command)  # type: ignore[arg-type]
    try:
        wanted = signature.bind(*(() if args is ANYTHING else args), **({} if kwargs is ANYTHING else kwargs))
    except TypeError as error:
        raise TypeError(f"{each.name} takes no such arguments: {error}.") from None
    actual = signature.bind(*each.args, **each.kwargs)
    wanted.apply_defaults()
    actual.apply_defaults()
    return [
        f"{name} is {actual.arguments[name]!r}"
        for name, value in wanted.arguments.items()
        if not _fits(value, actual.arguments[name])
    ]


def _fits(wanted: Any, actual: Any) -> bool:
    if wanted is ANYTHING:
        return True
    if callable(wanted) and not isinstance(wanted, type):
        return bool(wanted(actual))
    return bool(wanted == actual)


def _shown(command: "type[Mandate]", args: Any, kwargs: Any, queue: Any, at: Any) -> str:
    given: Mapping[str, Any] = {"args": args, "kwargs": kwargs, "queue": queue, "at": at}
    return ", ".join([command.__name__, *(f"{k}={v!r}" for k, v in given.items() if v is not ANYTHING)])


def _listed(recorded: Sequence[Recorded], verb: str) -> str:
    if not recorded:
        return f"\nNothing was {verb}."
    return f"\nWhat was {verb}:" + "".join(f"\n  {each}" for each in recorded)
