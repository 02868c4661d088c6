"""What a command can ask of the job that runs it: steps, a report, its batch, and to be run again."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Literal, NoReturn, TypeVar, overload

from jobs import unrun
from jobs.batches.batch import Batch
from jobs.broker.connections import get_connection
from jobs.broker.times import as_text
from jobs.client import options
from jobs.errors import NotInWorkerError, StepError
from jobs.job import MandateJob
from jobs.limits import policy
from jobs.runtime import passage
from jobs.steps.handle import Unkept
from jobs.steps.run import Steps
from jobs.steps.walk import EitherIterable, EitherIterator, is_asynchronous
from jobs.waits.reports import Number, Reporter, checked

T = TypeVar("T")


class RequeueRequested(BaseException):
    """Raised by `requeue_job`. A BaseException, so that `except Exception` in a command cannot swallow it."""

    def __init__(self, delay: float) -> None:
        super().__init__(f"requeue after {delay:g} s")
        self.delay = delay


class SlowDownRequested(RequeueRequested):
    """Raised by `slow_down`, and for an error of `limit_on`. `numbers` are those of the limits, from 1."""

    def __init__(self, delay: float, numbers: Sequence[int]) -> None:
        super().__init__(delay)
        self.numbers = tuple(numbers)


class Running:
    """The methods that a command has while a worker runs it; `_claim` is the worker's, and is there no other time."""

    @passage
    def step(
        self,
        function: Callable[..., T],
        *,
        name: str | None = None,
        start: Any = None,
        isolated: bool = False,
    ) -> T:
        """
        Run a step of this job, once: `function()`, a method or any function. An attempt that finds it ended passes over
        it. Returns what the function returned, now or then; its result is recorded before the next line runs.

        A function with an argument gets a `jobs.steps.handle.Step`: `cursor` says where to go on (at first `start`),
        `set(cursor)` records what is done, `checkpoint()` lets the job be stopped there. `name` is the function's by
        default, and must stay the same in later releases. With `isolated`, the step has an attempt to itself, with all
        of `timeout`.

        Raises StepError for a name that is used twice, a step inside a step, an order that a release has changed (see
        `steps_renamed`), a result or cursor that cannot be recorded or is over 64 kB; CheckpointError inside an open
        transaction; what the function raises. Where no worker runs the command, the function is just called.
        """
        return self._in_steps().step(function, name, start, isolated)  # type: ignore[no-any-return]

    @overload
    def each(
        self,
        items: EitherIterable[T],
        *,
        name: str = ...,
        by: str = ...,
        total: int | None = ...,
        atomic: Literal[False] = ...,
    ) -> EitherIterator[T]: ...
    @overload
    def each(
        self,
        items: Iterable[T],
        *,
        name: str = ...,
        by: str = ...,
        total: int | None = ...,
        atomic: Literal[False] = ...,
    ) -> Iterator[T]: ...
    @overload
    def each(
        self,
        items: AsyncIterable[T],
        *,
        name: str = ...,
        by: str = ...,
        total: int | None = ...,
        atomic: Literal[False] = ...,
    ) -> AsyncIterator[T]: ...
    @overload
    def each(
        self,
        items: Iterable[T],
        body: Callable[[T], object],
        *,
        name: str = ...,
        by: str = ...,
        total: int | None = ...,
        chunk: int = ...,
        atomic: bool | str = ...,
    ) -> None: ...
    @passage
    def each(
        self,
        items: Any,
        body: Callable[[Any], object] | None = None,
        *,
        name: str = "each",
        by: str = "pk",
        total: int | None = None,
        chunk: int = 100,
        atomic: bool | str | None = None,
    ) -> Any:
        """
        Loop over a queryset or another iterable, as one step: `for item in self.each(items)`. An attempt that is not
        the first goes on after the last item that was recorded as done. A queryset is walked in the order of `by`, a
        field that is never null; an iterable must yield the same items again. `total`, their number, is for the bar.
        In an `async def`, `async for item in self.each(items)` loops over a queryset or another async iterable.

        With a `body`, `self.each(items, body)` calls `body(item)` for each, `chunk` items in a transaction that commits
        the place in the loop, too: each item's effects on that database happen exactly once. `atomic` is the database's
        alias; True, the one that the queryset writes to; False, no transaction.

        Raises what `step` raises, and StepError for a queryset that cannot be walked by key, and for a body in an
        `async def`.
        """
        steps = self._in_steps()
        if is_asynchronous(items) and (atomic or body is not None):
            raise StepError(
                f"The step {name!r} has a body or is atomic, on an event loop. `each` runs bodies in transactions, "
                "and a transaction belongs to one thread. Write `async for item in self.each(items)`, and put what "
                "must be atomic into one sync function: `await sync_to_async(self.grade)(item)`."
            )
        if body is None and atomic:
            raise StepError("`each` with atomic=True needs a body: self.each(items, body). A loop cannot roll back.")
        if body is not None and (kind := unrun.kind_of(body)):
            raise StepError(f"The body of the step {name!r} is {kind}: a call would not run it. Make it a plain `def`.")
        if body is None:
            return steps.loop(items, name, by, total)
        if atomic is False:
            for item in steps.loop(items, name, by, total):
                body(item)
        else:
            steps.chunks(items, body, name, by, total, chunk, True if atomic is None else atomic)
        return None

    def _in_steps(self) -> Steps:
        own = vars(self)
        if "_steps" not in own:
            own["_steps"] = Steps(self, own["_claim"].keep_steps() if "_claim" in own else Unkept())
        return own["_steps"]  # type: ignore[no-any-return]

    def requeue_job(self, wait: float | timedelta) -> NoReturn:
        """
        Stop here and run this job again after `wait` seconds (or a timedelta), with the same id and arguments. It does
        not count as a failure.

        Raises NotInWorkerError if no worker is running the command, ValueError for an invalid `wait`.
        """
        if "_claim" not in vars(self):
            raise NotInWorkerError(
                f"{type(self).__qualname__} cannot be requeued: no worker runs it, so there is no job to run again."
            )
        raise RequeueRequested(options.span("wait", wait))

    def slow_down(self, seconds: float | timedelta, *, group: str = "") -> NoReturn:
        """
        Stop here, and start no job for `seconds` (or a timedelta) that has the limits of this one, with the same values
        of their keys; with `group`, those of this group alone. This job is the first to run then. Not a failure.

        Raises NotInWorkerError if no worker is running the command, ValueError for invalid `seconds` and for a group of
        which the command has no limit.
        """
        if "_claim" not in vars(self):
            raise NotInWorkerError(f"{type(self).__qualname__} cannot slow down: no worker runs it.")
        raise SlowDownRequested(options.span("seconds", seconds), policy.numbers(self, group))

    def report(self, done: Number, total: Number | None = None, text: str = "") -> None:
        """
        Report how far the job is: `done` of `total` (None: unknown), and a few words on what it does. The job's page,
        `job.report` and `{% job_progress job %}` show the last report. It may be called in a tight loop: at most two a
        second are written, and the last one with the outcome. Does nothing if no worker runs the command.

        Raises ValueError for a number that is negative or endless, TypeError for a text that is no str.
        """
        report = checked(done, total, text)
        if (claim := vars(self).get("_claim")) is not None:
            claim.reporter = claim.reporter or Reporter(claim)
            claim.reporter.add(report)

    @property
    def batch(self) -> Batch | None:
        """
        The batch whose member this job is, or whose callback: the first, if it is the member of several. None for any
        other job, and if the command was called with `run`.
        """
        claim = vars(self).get("_claim")
        if claim is None or not (claim.more.callback or claim.more.batches):
            return None
        batch_id = as_text(claim.more.callback or claim.more.batches.split()[0])
        return Batch.handle(batch_id, get_connection(claim.queue_name), claim.job_id)

    @property
    def job(self) -> MandateJob | None:
        """The job that is running this command; None if it was called with `run`."""
        own = vars(self)
        if "_job" not in own and "_claim" in own:  # created on first access: few commands use it
            claim = own["_claim"]
            own["_job"] = MandateJob.handle(
                claim.job_id,
                queue=claim.queue_name,
                payload=claim.payload,
                connection=get_connection(claim.queue_name),
            )
            own["_job"].is_written = True
        return own.get("_job")
