"""A workflow: a batch whose jobs wait for each other, and take each other's results as arguments."""

import hashlib
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Generic, Literal, NoReturn, ParamSpec, Protocol, TypeVar, get_type_hints, overload

from jobs import queues
from jobs.batches import members, rerun
from jobs.batches.batch import CURRENT, Batch
from jobs.batches.record import RESULTS_KEPT, MemberState, Prepared
from jobs.broker import keys
from jobs.broker.connections import reaching
from jobs.client.context import capture
from jobs.client.new_job import new_job
from jobs.errors import FlowError
from jobs.job import MandateJob
from jobs.outbox import hooks
from jobs.record import more, prerequisites, references
from jobs.record.prerequisites import Prerequisites
from jobs.record.references import Result

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
OnFailure = Literal["block", "run", "cancel"]


class _Calls(Protocol[R]):
    def call(self) -> R: ...


class _CallsAsync(Protocol[R]):
    def call(self) -> Coroutine[Any, Any, R]: ...


class Step(Generic[R]):
    """A job of a flow."""

    def __init__(self, job: MandateJob[Any], name: str, returns: Any, after: tuple[str, ...]) -> None:
        self.job, self.name, self.after, self._returns = job, name, after, returns

    @property
    def id(self) -> str:
        """The id of its job."""
        return str(self.job.id)

    @property
    def result(self) -> R:
        """
        What the step will return, as an argument of a later step. FlowError for a command that returns nothing.
        """
        if self._returns in (None, type(None), NoReturn):
            raise FlowError(
                f"{self.name} returns nothing, so no step can take its result. Give its `call` a return type."
            )
        return Result(self.id, self._returns)  # type: ignore[return-value]  # in place of a value that is not there yet

    def __repr__(self) -> str:
        return f"<Step {self.name} {self.id}>"


class Workflow(Batch):
    """
    Steps that wait for each other. Each is a job; all of them are a batch:

        with Workflow("onboard", unique="learner:7") as flow:
            fetched = flow.add(Fetch, 7)
            parsed = flow.add(Parse, fetched.result)
            flow.add(Report, [parsed.result], after=[parsed], on_failure="run")

    A step begins when those whose results it takes, and those in `after`, have finished. What a step opens in its
    `call`, a batch or a flow, is part of it: later steps wait for that, too.
    """

    _is_flow = True

    def __init__(
        self,
        name: str = "",
        *,
        unique: str | None = None,
        on_success: Prepared | None = None,
        on_complete: Prepared | None = None,
        on_dead: Prepared | None = None,
        tags: Iterable[str] = (),
        parent: Batch | None = CURRENT,
    ) -> None:
        """
        `unique`: while a flow of that text has not ended, a second one is not written, but refers to it, and is its
        `duplicate`. The other parameters and errors are those of Batch.
        """
        options: dict[str, Any] = {"on_success": on_success, "on_complete": on_complete, "on_dead": on_dead}
        super().__init__(name, tags=tags, parent=parent, **options)
        if not (unique is None or (isinstance(unique, str) and unique)):
            raise FlowError(f"unique={unique!r} is impossible. Give a text, or None.")
        if unique is not None:
            self._lock = keys.unique("flow", hashlib.sha1(unique.encode(), usedforsecurity=False).hexdigest())
        self._steps: dict[str, Step[Any]] = {}

    @property
    def duplicate(self) -> bool:
        """Whether it refers to the unique flow that existed already."""
        return bool(self._block and self._block.stands_for)

    @property
    def steps(self) -> list[Step[Any]]:
        """The steps that were added in this process, in order."""
        return list(self._steps.values())

    @overload  # type: ignore[override]  # adds a step, where a batch opens a block
    def add(
        self,
        command: Callable[..., _Calls[R]],
        /,
        *args: Any,
        after: Iterable[Step[Any]],
        on_failure: OnFailure = ...,
        queue: str = ...,
        **fields: Any,
    ) -> Step[R]: ...
    @overload
    def add(
        self, command: Callable[..., _Calls[R]], /, *args: Any, on_failure: OnFailure, queue: str = ..., **fields: Any
    ) -> Step[R]: ...
    @overload
    def add(self, command: Callable[..., _Calls[R]], /, *args: Any, queue: str, **fields: Any) -> Step[R]: ...
    @overload
    def add(self, command: Callable[P, _CallsAsync[R]], /, *args: P.args, **kwargs: P.kwargs) -> Step[R]: ...
    @overload
    def add(self, command: Callable[P, _Calls[R]], /, *args: P.args, **kwargs: P.kwargs) -> Step[R]: ...
    def add(  # type: ignore[misc]  # as for `defer`: options are never fields
        self,
        command: Any,
        /,
        *args: Any,
        after: Iterable[Step[Any]] = (),
        on_failure: OnFailure = "block",
        queue: str | None = None,
        **fields: Any,
    ) -> Step[Any]:
        """
        Add a step, in the block of the flow. Takes the command's fields, among them results of earlier steps, and:

        `after`: steps that must have finished, too; `queue`, instead of the class's own; `on_failure`: what it does if
        a step before it does not finish: "block" waits until a person decides, "run" runs, with None for that result,
        "cancel" does not run, and is discarded. `unique_for` and `collapse` do not apply to steps.

        Returns the step. Raises FlowError for a step of another flow, and outside the block; the errors of `defer`.
        """
        if self._block is None or not self._block.is_open:
            raise FlowError(f"Flow {self.id} is not open. Add its steps in the block of its `with`.")
        if on_failure not in ("block", "run", "cancel"):
            raise ValueError(f'on_failure={on_failure!r} is impossible. Give "block", "run" or "cancel".')
        is_command = isinstance(command, type) and hasattr(command, "call")
        if not is_command:
            raise FlowError(f"{command!r} is no command. Give its class, and then its arguments: flow.add(Fetch, 7).")
        if not isinstance(after, Iterable):
            raise FlowError(f"after={after!r} is impossible. Give a list of steps.")
        before = self._before(after, references.within([args, fields]))
        queue = queues.check(queue) if queue else queues.of_class(command.queue)
        durable = bool(command.durable) and hooks.is_durable(command, None)
        if durable and self._lock:
            raise FlowError(f"{command.__qualname__} is durable, and flow {self.id} unique: give up one of the two.")
        first = Prerequisites(tuple(before), on_failure != "block")
        with references.allowed():
            new = new_job(command, args, fields, queue=queue, prerequisites=first, context=capture(), durable=durable)
        kept = more.added((*new.fields, "result_ttl", RESULTS_KEPT), more.FEW)
        kept += ("on_failure", on_failure) if on_failure != "block" and before else ()
        (job,) = self._block.take([new._replace(fields=kept, lock=None, collapse=None)])
        step: Step[Any] = Step(job, command.__qualname__, _returns(command), tuple(before))
        self._steps[step.id] = step
        return step

    def _before(self, after: Iterable[Step[Any]], results: Iterable[Result]) -> list[str]:
        ids = []
        for each in (*results, *after):
            job_id = each.job_id if isinstance(each, Result) else getattr(each, "id", None)
            if job_id not in self._steps:
                raise FlowError(f"{each!r} is no step of flow {self.id}. Add it to this flow first.")
            ids.append(str(job_id))
        return list(dict.fromkeys(ids))

    def retry_from(self, step: "Step[Any] | MandateJob[Any] | str") -> int:
        """
        Run a step that has ended again, and every step after it. Returns how many jobs were enqueued or wait again. If
        this process dies, a worker does the rest.

        Raises FlowError if it is no step of this flow, BatchNotFoundError, RedisUnavailableError.
        """
        first = str(getattr(step, "id", step))
        graph = self.graph()
        if first not in graph:
            raise FlowError(f"{first!r} is no step of flow {self.id}.")
        client = self._server()
        with reaching(client), client.pipeline(transaction=False) as pipeline:
            for job_id in graph:
                pipeline.hexists(keys.job(job_id), "on_failure")
            answers = pipeline.execute()
        any_end = {job_id for job_id, is_said in zip(graph, answers, strict=True) if is_said}
        rerun.begin(client, self.id, graph, first, any_end=any_end)
        return rerun.carry_on(client, self.id)

    def graph(self) -> dict[str, list[str]]:
        """Return the ids of the steps that have a record, each with those before it; in order of their edges."""
        client = self._server()
        found: dict[str, list[str]] = {}
        for state in MemberState:
            for some in members.slices(members.job_ids(client, self.id, state)):
                with reaching(client), client.pipeline(transaction=False) as pipeline:
                    for job_id in some:
                        pipeline.hget(keys.job(job_id), "prereqs")
                    answers = pipeline.execute()
                for job_id, field in zip(some, answers, strict=True):
                    found[job_id] = prerequisites.jobs_of(prerequisites.listed(field or b""))
        return rerun.in_order(found)


def _returns(command: Any) -> Any:
    try:
        return get_type_hints(command.call).get("return", references.UNKNOWN)
    except (NameError, TypeError, AttributeError):  # a forward reference under TYPE_CHECKING
        return references.UNKNOWN
