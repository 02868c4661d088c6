"""What a step holds on to: the argument of its function, and what keeps its state."""

from typing import Any, Protocol

import orjson

from jobs.errors import StepError
from jobs.record import arguments
from jobs.steps import walk
from jobs.steps.record import Current, State

LARGEST = 64 * 1024  # bytes of a result or a cursor


class Keeper(Protocol):
    """What keeps the state: the checkpoints of an attempt, or nothing (`Unkept`)."""

    state: State
    has_advanced: bool
    max_runtime: float | None  # seconds
    job_id: bytes | None

    @property
    def is_due(self) -> bool: ...
    def reach(self, *, writes: bool = False) -> None: ...
    def write(self) -> None: ...
    def check(self) -> None: ...
    def passed(self, done: int) -> None: ...
    def keep_result(self, number: int, result: bytes) -> None: ...
    def result(self, number: int) -> Any: ...


class Unkept:
    """In the place of checkpoints where no worker runs the command: nothing is recorded, and nothing is asked."""

    job_id: bytes | None = None
    is_due = False

    def __init__(self) -> None:
        self.state = State()
        self.max_runtime: float | None = None

    @property
    def has_advanced(self) -> bool:
        return False

    @has_advanced.setter
    def has_advanced(self, value: bool) -> None: ...

    def reach(self, *, writes: bool = False) -> None: ...

    def write(self) -> None: ...

    def check(self) -> None: ...

    def passed(self, done: int) -> None: ...

    def keep_result(self, number: int, result: bytes) -> None: ...

    def result(self, number: int) -> Any:
        raise AssertionError(number)  # no step has ended before


class Step:
    """The argument of a step's function: where it is in its work."""

    def __init__(self, keeper: Keeper, current: Current) -> None:
        self._keeper, self._current = keeper, current

    @property
    def cursor(self) -> Any:
        """What `set` was given last, in this attempt or an earlier one; at first `start` of `self.step`."""
        return arguments.decode(self._current.cursor)

    def set(self, cursor: Any) -> None:
        """
        Record where the work is, and reach a checkpoint: what is before the cursor is done. `cursor` is anything that
        an argument can be.

        Raises StepError for a cursor that cannot be recorded or is over 64 kB, and what `checkpoint` raises.
        """
        encoded = walk.encoded(cursor, self._current.name)
        if len(orjson.dumps(encoded)) > LARGEST:
            raise StepError(
                f"The cursor of the step {self._current.name!r} is over {LARGEST:,} bytes. Set a smaller one."
            )
        self._current.cursor = encoded
        self._current.done += 1
        self._keeper.has_advanced = True
        self._keeper.reach()

    def checkpoint(self) -> None:
        """
        Reach a checkpoint: the state is written if the last time was a second ago; the attempt ends here if its worker
        stops, its queue is paused, or the job was cancelled. CheckpointError inside an open transaction.
        """
        self._keeper.reach()
