"""The assertions about jobs. Each one is a call; in a `with`, it considers only the jobs that its block adds."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from jobs.batches.batch import Batch
from jobs.batches.workflow import Workflow
from jobs.job import MandateJob
from jobs.testing import patches
from jobs.testing.batches import find_batch, find_flow
from jobs.testing.matching import ANYTHING, Expected, listed
from jobs.testing.perform import Performer
from jobs.testing.recorded import Chosen, Recorded, Wanted
from jobs.testing.with_statement import caller, is_entered

if TYPE_CHECKING:
    from jobs.mandate import Mandate

Look = Callable[[Sequence[Recorded]], MandateJob | None]


class Assertions(Performer):
    """
    The assertions about the jobs that a kit has recorded.

    In a `with`, assertions about performed jobs perform the jobs that their block enqueues, as ActiveJob's do.
    """

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
        Assert that a job of exactly this command was enqueued, with these arguments, to this queue, due at this time.

        Only the given parameters are compared. `args` and `kwargs` are compared as one call: it does not matter whether
        a field was given by position or by name. Each of the four, and each argument, may be a function of the actual
        value. Times match within a second, or `within(seconds).of(time)`; `at=None` is a job without a wait. Returns
        the job. In a `with`, the job is the attribute `job` of the `as` target, after the block.
        """
        look = _with(Expected(command, args=args, kwargs=kwargs, queue=queue, at=at), "enqueued")
        return _asserted(caller(), self.enqueued_jobs, look)

    def assert_performed_with(
        self,
        command: "type[Mandate]",
        *,
        args: Any = ANYTHING,
        kwargs: Any = ANYTHING,
        queue: Any = ANYTHING,
        at: Any = ANYTHING,
    ) -> Any:
        """Assert the same of a job that was performed, with any outcome."""
        look = _with(Expected(command, args=args, kwargs=kwargs, queue=queue, at=at), "performed")
        return _asserted(caller(), self.performed_jobs, look, self._at_once(Wanted()))

    def assert_enqueued_jobs(
        self, number: int, *, only: Chosen = None, exclude: Chosen = None, queue: str | None = None
    ) -> Any:
        """Assert the number of pushes: of new jobs, performed since or not, of requeues and of retries."""
        wanted = Wanted(only, exclude, queue)
        return _asserted(caller(), self.enqueued_jobs, _counted(number, wanted, "enqueued"))

    def assert_performed_jobs(
        self, number: int, *, only: Chosen = None, exclude: Chosen = None, queue: str | None = None
    ) -> Any:
        """Assert the number of attempts performed."""
        wanted = Wanted(only, exclude, queue)
        look = _counted(number, wanted, "performed")
        return _asserted(caller(), self.performed_jobs, look, self._at_once(wanted))

    def assert_no_enqueued_jobs(self, *, only: Chosen = None, exclude: Chosen = None, queue: str | None = None) -> Any:
        """Assert that no job was enqueued."""
        wanted = Wanted(only, exclude, queue)
        return _asserted(caller(), self.enqueued_jobs, _counted(0, wanted, "enqueued"))

    def assert_no_performed_jobs(self, *, only: Chosen = None, exclude: Chosen = None, queue: str | None = None) -> Any:
        """Assert that no job was performed."""
        wanted = Wanted(only, exclude, queue)
        look = _counted(0, wanted, "performed")
        return _asserted(caller(), self.performed_jobs, look, self._at_once(wanted))

    def assert_batch(
        self,
        name: str,
        *,
        jobs: Any = ANYTHING,
        on_success: Any = ANYTHING,
        on_complete: Any = ANYTHING,
        on_dead: Any = ANYTHING,
    ) -> Batch:
        """
        Assert that a batch of that name was written, with so many members and these commands as its callbacks; None: no
        callback. Only the given parameters are compared. Returns the batch: `has_succeeded`, `counts`.
        """
        expected = {"success": on_success, "complete": on_complete, "dead": on_dead}
        with patches.showing(self):
            return find_batch(self.memory, name, jobs, expected, self.enqueued_jobs)

    def assert_flow(self, name: str, steps: Mapping[str, Collection[str]]) -> Workflow:
        """
        Assert that a flow of that name was written with these steps: names of commands, each with those before it.

            jobs.assert_flow("onboard", {"Fetch": (), "Parse": {"Fetch"}, "Report": {"Parse"}})

        A name is that of the class; steps of one command count as one. Returns the flow.
        """
        with patches.showing(self):
            return find_flow(self.memory, name, steps)


class Block:
    """An assertion in a `with`. `job` is the matching job, once the block has ended."""

    job: MandateJob | None = None

    def __init__(self, recorded: list[Recorded], look: Look, around: AbstractContextManager[None]) -> None:
        self._recorded, self._look, self._around = recorded, look, around

    def __enter__(self) -> "Block":
        self._before = len(self._recorded)
        self._around.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._around.__exit__(kind, error, tb)
        if error is None:
            self.job = self._look(self._recorded[self._before :])


def _asserted(
    frame: FrameType, recorded: list[Recorded], look: Look, around: AbstractContextManager[None] | None = None
) -> Any:
    return Block(recorded, look, around or nullcontext()) if is_entered(frame) else look(recorded)


def _counted(number: int, wanted: Wanted, verb: str) -> Look:
    def look(recorded: Sequence[Recorded]) -> None:
        jobs = [each for each in recorded if wanted(each)]
        if len(jobs) != number:
            expected = f"{number or 'no'} {'job' if number == 1 else 'jobs'} to be {verb}{wanted}"
            raise AssertionError(f"Expected {expected}, but {_actual(jobs, recorded, verb)}")

    return look


def _actual(jobs: Sequence[Recorded], recorded: Sequence[Recorded], verb: str) -> str:
    if jobs:
        return f"{len(jobs)} {'was' if len(jobs) == 1 else 'were'}:{listed(jobs)}"
    if recorded:
        return f"none was. What was {verb}:{listed(recorded)}"
    return f"nothing was {verb}."


def _with(expected: Expected, verb: str) -> Look:
    def look(recorded: Sequence[Recorded]) -> MandateJob:
        others = []  # other jobs of the command, each with its differences
        for each in recorded:
            if each.command is expected.command:
                if not (differences := expected.differences(each)):
                    return each.job
                others.append((each, differences))
        raise AssertionError(f"Expected this job to be {verb}:\n  {expected}\n{_nearest(others, recorded, verb)}")

    return look


def _nearest(others: list[tuple[Recorded, list[str]]], recorded: Sequence[Recorded], verb: str) -> str:
    if others:
        others.sort(key=lambda other: len(other[1]))
        texts = ("\n    ".join([str(each), *differences]) for each, differences in others)
        return f"Of that command there was:{listed(texts)}"
    return f"What was {verb}:{listed(recorded)}" if recorded else f"Nothing was {verb}."
