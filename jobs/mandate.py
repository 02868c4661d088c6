"""The command mixin: a class with typed fields and one `call`, run now or deferred to a queue."""

import dataclasses
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import (
    Any,
    ClassVar,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    dataclass_transform,
    overload,
)

from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction

from jobs import conf, queues, runtime, unrun
from jobs.batches.record import Prepared
from jobs.broker.connections import get_connection
from jobs.client import options, tracing
from jobs.client.context import Context, capture
from jobs.client.new_job import builder, new_job
from jobs.errors import CommandDefinitionError, SerializationError
from jobs.job import MandateJob
from jobs.limits import policy
from jobs.limits.collapse import Collapse
from jobs.limits.policy import Concurrency, Pause, Rate, Share
from jobs.outbox import hooks
from jobs.record import display, registry
from jobs.record.prerequisites import NONE, Given, resolve
from jobs.retries import RetryOn
from jobs.runtime import passage
from jobs.steps.running import Running

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
Row = Sequence[Any] | Mapping[str, Any]
PrereqFailure = Literal["wait", "run"]


class _Calls(Protocol[R]):
    def call(self) -> R: ...


class _CallsAsync(Protocol[R]):
    def call(self) -> Coroutine[Any, Any, R]: ...


@dataclass_transform(eq_default=False)
class Mandate(Running):
    """
    A command: annotated fields are its arguments, `call` does its work, class attributes set how it is queued.

        class ProcessSubmission(Mandate):
            queue = "critical"
            submission_id: int

            def call(self):
                ...

    `ProcessSubmission.run(7)` runs it in this process and returns the result of `call`; `ProcessSubmission.defer(7)`
    enqueues a job. Fields follow the rules of dataclasses. Class options and their defaults are in
    `jobs.client.options.DEFAULTS`; subclasses inherit them.
    """

    queue: ClassVar[str] = options.DEFAULTS["queue"]
    timeout: ClassVar[float | None] = options.DEFAULTS["timeout"]
    retries: ClassVar[int] = options.DEFAULTS["retries"]
    retry_on: ClassVar[Sequence[RetryOn]] = options.DEFAULTS["retry_on"]
    discard_on: ClassVar[Sequence[type[BaseException]]] = options.DEFAULTS["discard_on"]
    max_requeues: ClassVar[int | None] = options.DEFAULTS["max_requeues"]
    expires_in: ClassVar[float | timedelta | None] = options.DEFAULTS["expires_in"]
    unique_for: ClassVar[float | timedelta | None] = options.DEFAULTS["unique_for"]
    collapse: ClassVar[Collapse | None] = options.DEFAULTS["collapse"]
    guard_against_deserialization_errors: ClassVar[bool] = options.DEFAULTS["guard_against_deserialization_errors"]
    limits: ClassVar[Sequence[Concurrency | Rate]] = options.DEFAULTS["limits"]
    share: ClassVar[Share] = options.DEFAULTS["share"]
    limit_on: ClassVar[Mapping[type[BaseException], Pause]] = options.DEFAULTS["limit_on"]
    durable: ClassVar[bool] = options.DEFAULTS["durable"]
    result_ttl: ClassVar[int] = options.DEFAULTS["result_ttl"]
    keep_log: ClassVar[bool] = options.DEFAULTS["keep_log"]
    profile_rate: ClassVar[float] = options.DEFAULTS["profile_rate"]
    strict_types: ClassVar[bool] = options.DEFAULTS["strict_types"]
    log_arguments: ClassVar[bool] = options.DEFAULTS["log_arguments"]
    atomic: ClassVar[bool | str] = options.DEFAULTS["atomic"]
    max_runtime: ClassVar[float | None] = options.DEFAULTS["max_runtime"]
    resume_limit: ClassVar[int | None] = options.DEFAULTS["resume_limit"]
    steps_renamed: ClassVar[Mapping[str, str]] = options.DEFAULTS["steps_renamed"]

    context: ClassVar[Context] = Context()  # values sent with every job deferred while they are set
    is_async: ClassVar[bool] = False  # whether `call` is a coroutine function

    def __init_subclass__(cls, *, kw_only: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        options.check_fields(cls)
        options.check_options(cls)
        dataclasses.dataclass(eq=False, repr=False, kw_only=kw_only)(cls)
        options.check_methods(cls)
        policy.check(cls)
        policy.check_errors(cls)
        policy.check_share(cls)
        if "is_async" not in vars(cls):
            cls.is_async = unrun.kind_of(inspect.getattr_static(cls, "call")) == unrun.COROUTINE
        if cls.has_call():  # otherwise it is a base class for commands
            registry.register(cls)

    @classmethod
    def has_call(cls) -> bool:
        """Return whether the class defines `call`."""
        return cls.call is not Mandate.call

    def call(self) -> Any:
        """Do the work of the command. Every command overrides it."""
        raise CommandDefinitionError(f"{type(self).__qualname__} has no `call`. Define its work there.")

    unique_key: ClassVar[Callable[..., Any] | None] = None

    def on_retry(self, error: BaseException, attempt: int, delay: float) -> None:
        """Called when attempt number `attempt` has failed and another follows in `delay` seconds."""

    def on_dead(self, error: BaseException) -> None:
        """Called when the job has failed for good."""

    def on_discard(self, reason: str) -> None:
        """Called when an error of `discard_on` has dropped the job."""

    def __repr__(self) -> str:
        name = type(self).__qualname__
        if not self.log_arguments:
            return f"{name}(...)"
        shown = [f.name for f in dataclasses.fields(self) if f.repr]  # type: ignore[arg-type]
        values = ((each, display.hides(each) or repr(getattr(self, each, "?"))) for each in shown)
        return f"{name}({', '.join(f'{each}={value}' for each, value in values)})"

    @overload
    @classmethod
    def run(cls: Callable[P, _CallsAsync[R]], *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    @classmethod
    def run(cls: Callable[P, _Calls[R]], *args: P.args, **kwargs: P.kwargs) -> R: ...
    @classmethod
    @passage
    def run(cls, *args: Any, **kwargs: Any) -> Any:
        """
        Run the command now, in this process, and return the result of `call`. Takes the command's fields.

        An `async def call` is run to completion; inside a running event loop use `await Command.arun(...)`.
        """
        return invoke(cls(*args, **kwargs))

    @classmethod
    async def arun(cls: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> Any:
        """`run` for async code: awaits an `async def call`, and runs any other in the thread of `sync_to_async`."""
        command = cls(*args, **kwargs)
        if command.is_async:
            return finished(command, await command.call())
        return await sync_to_async(invoke)(command)

    @overload
    @classmethod
    def defer(cls: Callable[P, _CallsAsync[R]], *args: P.args, **kwargs: P.kwargs) -> MandateJob[R]: ...
    @overload
    @classmethod
    def defer(cls: Callable[P, _Calls[R]], *args: P.args, **kwargs: P.kwargs) -> MandateJob[R]: ...
    @overload
    @classmethod
    def defer(  # type: ignore[overload-cannot-match]  # mypy cannot see that options are never fields
        cls: Callable[..., _Calls[R]],
        *args: Any,
        wait: float | timedelta,
        queue: str = ...,
        prereq_jobs: Given | None = ...,
        prereq_failure: PrereqFailure = ...,
        profile: bool = ...,
        durable: bool = ...,
        **fields: Any,
    ) -> MandateJob[R]: ...
    @overload
    @classmethod
    def defer(  # type: ignore[overload-cannot-match]  # mypy cannot see that options are never fields
        cls: Callable[..., _Calls[R]],
        *args: Any,
        wait_until: datetime,
        queue: str = ...,
        prereq_jobs: Given | None = ...,
        prereq_failure: PrereqFailure = ...,
        profile: bool = ...,
        durable: bool = ...,
        **fields: Any,
    ) -> MandateJob[R]: ...
    @overload
    @classmethod
    def defer(  # type: ignore[overload-cannot-match]  # mypy cannot see that options are never fields
        cls: Callable[..., _Calls[R]],
        *args: Any,
        prereq_jobs: Given | None,
        prereq_failure: PrereqFailure = ...,
        queue: str = ...,
        profile: bool = ...,
        durable: bool = ...,
        **fields: Any,
    ) -> MandateJob[R]: ...
    @overload
    @classmethod
    def defer(  # type: ignore[overload-cannot-match]  # mypy cannot see that options are never fields
        cls: Callable[..., _Calls[R]], *args: Any, queue: str, profile: bool = ..., durable: bool = ..., **fields: Any
    ) -> MandateJob[R]: ...
    @overload
    @classmethod
    def defer(  # type: ignore[overload-cannot-match]  # mypy cannot see that options are never fields
        cls: Callable[..., _Calls[R]], *args: Any, profile: bool, durable: bool = ..., **fields: Any
    ) -> MandateJob[R]: ...
    @overload
    @classmethod
    def defer(cls: Callable[..., _Calls[R]], *args: Any, durable: bool, **fields: Any) -> MandateJob[R]: ...  # type: ignore[overload-cannot-match]
    @classmethod  # type: ignore[misc]
    def defer(
        cls,
        *args: Any,
        wait: float | timedelta | None = None,
        wait_until: datetime | None = None,
        queue: str | None = None,
        prereq_jobs: Given | None = None,
        prereq_failure: PrereqFailure = "wait",
        profile: bool = False,
        durable: bool | None = None,
        **fields: Any,
    ) -> MandateJob:
        """
        Enqueue a job that runs the command, once all open transactions have committed. Takes the command's fields, and:

        `wait`, seconds or a timedelta from now, or `wait_until`, an aware datetime; `queue`, instead of the class's
        own; `prereq_jobs`, jobs or job ids that must finish first, or with `prereq_failure="run"` end in any way;
        `profile=True`, to profile its attempts; `durable`, instead of the class's own: True to keep it in the database
        until Redis has it.

        Returns the job; its `id` is set immediately. With `unique_for`, a duplicate refers to the earlier job, and its
        `duplicate` is True; with `collapse`, so is the job of a call that has collapsed into another one, and `wait`,
        `wait_until` and `prereq_jobs` are a ValueError. Raises TypeError for fields that do not match or have another
        type than annotated, SerializationError for an argument that cannot be serialized, ValueError for an invalid
        option, UnknownQueueError, PrerequisiteError, RedisUnavailableError. A durable job raises DurabilityError if a
        transaction of another database is open, DatabaseError if it cannot be inserted, and no RedisUnavailableError.
        """
        queue = queues.check(queue) if queue else queues.of_class(cls.queue)
        durable = _is_durable(cls, durable)
        first = NONE
        if cls.collapse is not None:
            options.check_collapse(cls, wait=wait, wait_until=wait_until, prereq_jobs=prereq_jobs)
        if prereq_jobs is not None or prereq_failure != "wait":
            first = resolve(prereq_jobs, prereq_failure, get_connection(queue), is_durable=durable)
        due = options.due(wait, wait_until)
        if profile is not False:
            options.switch("profile", profile)
        with tracing.sending(cls, queue) if tracing.is_on else tracing.UNTRACED as note:
            new = new_job(
                cls,
                args,
                fields,
                queue=queue,
                due=due,
                prerequisites=first,
                context=capture(),
                profile=profile,
                is_wait=wait is not None,
                durable=durable,
            )
            note((new,))
            return queues.push((new,))[0]

    @classmethod
    async def adefer(cls: Callable[..., _Calls[R]], *args: Any, **fields_and_options: Any) -> MandateJob[R]:
        """`defer` for async code."""
        return await sync_to_async(cast(Any, cls).defer)(*args, **fields_and_options)  # type: ignore[no-any-return]

    @classmethod
    def defer_many(
        cls: Callable[..., _Calls[R]],
        rows: Iterable[Row],
        *,
        wait: float | timedelta | None = None,
        wait_until: datetime | None = None,
        spread: float | timedelta | None = None,
        queue: str | None = None,
        prereq_jobs: Given | None = None,
        prereq_failure: PrereqFailure = "wait",
        profile: bool = False,
        durable: bool | None = None,
    ) -> list[MandateJob[R]]:
        """
        Enqueue a job for each row, 300 a round trip. A row is a tuple of positional fields or a dict of named ones.

        With `spread`, seconds or a timedelta, the jobs become due evenly over that time instead of all at once. The
        other options and the errors are those of `defer`. All rows are checked before any is written. Returns the jobs
        in order.
        """
        command = cast(type[Mandate], cls)
        queue = queues.check(queue) if queue else queues.of_class(command.queue)
        durable = _is_durable(command, durable)
        rows = list(rows)
        if command.collapse is not None:
            options.check_collapse(command, wait=wait, wait_until=wait_until, spread=spread, prereq_jobs=prereq_jobs)
        due, step = options.due(wait, wait_until), 0.0
        if spread is not None:
            due, step = due or runtime.now(), options.span("spread", spread) / max(1, len(rows))
        first = NONE
        if prereq_jobs is not None or prereq_failure != "wait":
            first = resolve(prereq_jobs, prereq_failure, get_connection(queue), is_durable=durable)
        with tracing.sending(command, queue) if tracing.is_on else tracing.UNTRACED as note:
            shared: dict[str, Any] = {"queue": queue, "prerequisites": first, "context": capture()}
            shared |= {"profile": options.switch("profile", profile), "is_wait": wait_until is None, "durable": durable}
            build, new_jobs = builder(command, **shared), []
            for number, (row, job_id) in enumerate(zip(rows, queues.new_ids(len(rows)), strict=True)):
                is_named = not isinstance(row, tuple) and isinstance(row, Mapping)
                given: Any = ((), row) if is_named else (row, {})
                at = due + number * step if due is not None else None
                try:
                    new_jobs.append(build(job_id, given[0], given[1], at))
                except (TypeError, SerializationError) as error:
                    error.add_note(f"This was row {number} of defer_many; no row was enqueued.")
                    raise
            note(new_jobs)
            return queues.push(new_jobs)

    @overload
    @classmethod
    def prepare(cls: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> Prepared: ...
    @overload
    @classmethod
    def prepare(
        cls,
        *args: Any,
        wait: float | timedelta = ...,
        queue: str = ...,
        profile: bool = ...,
        durable: bool = ...,
        **fields: Any,
    ) -> Prepared: ...
    @classmethod  # type: ignore[misc]  # as for `defer`
    def prepare(
        cls,
        *args: Any,
        wait: float | timedelta | None = None,
        queue: str | None = None,
        profile: bool = False,
        durable: bool | None = None,
        **fields: Any,
    ) -> Prepared:
        """
        Return a job that is not deferred yet: a callback of a batch. Takes the command's fields, and of the options of
        `defer` `wait`, `queue`, `profile` and `durable`. `unique_for` and `collapse` do not apply to it.

        Raises the errors of `defer` for fields and options.
        """
        queue = queues.check(queue) if queue else queues.of_class(cls.queue)
        shared: dict[str, Any] = {"queue": queue, "context": capture(), "durable": _is_durable(cls, durable)}
        shared |= {"profile": options.switch("profile", profile), "is_wait": wait is not None}
        return Prepared(new_job(cls, args, fields, due=options.due(wait, None), **shared))

    @classmethod
    def using(
        cls: Callable[P, _Calls[R]],
        *,
        wait: float | timedelta | None = None,
        wait_until: datetime | None = None,
        queue: str | None = None,
        prereq_jobs: Given | None = None,
        prereq_failure: PrereqFailure = "wait",
        profile: bool = False,
        durable: bool | None = None,
    ) -> "Deferral[P, R]":
        """Bind the options of `defer` first, so that a type checker still checks the fields: `.using(...).defer(7)`."""
        bound = {"wait": wait, "wait_until": wait_until, "queue": queue, "prereq_jobs": prereq_jobs}
        bound |= {"prereq_failure": prereq_failure, "profile": profile, "durable": durable}
        return Deferral(partial(cls.defer, **bound))  # type: ignore[attr-defined]


def _is_durable(command: type[Mandate], given: bool | None) -> bool:
    """Return whether a job is to be durable; most are not, at the cost of three comparisons."""
    if given is None:
        return (command.durable or bool(conf.get("DURABLE"))) and hooks.is_durable(command, None)
    return options.switch("durable", given) and hooks.is_durable(command, given)


class Deferral(Generic[P, R]):
    """A command with bound options of `defer`; returned by `using`."""

    def __init__(self, defer: Callable[..., MandateJob[R]]) -> None:
        self._defer = defer

    def defer(self, *args: P.args, **kwargs: P.kwargs) -> MandateJob[R]:
        """Call `Command.defer` with the options given to `using`. Takes the command's fields."""
        return self._defer(*args, **kwargs)


@passage
def invoke(command: Mandate) -> Any:
    """Run a command's `call`, plain or async, to completion; that of an atomic one in a transaction."""
    if command.atomic:
        with transaction.atomic(using=options.database_of(command)):
            return finished(command, command.call())
    if command.is_async:
        return finished(command, async_to_sync(command.call)())
    return finished(command, command.call())


def finished(command: Mandate, result: Any) -> Any:
    """
    Return the result of `call`.

    Raises:
        TypeError: for a generator, a coroutine and the like: nothing has run, so the command has not succeeded.
    """
    return unrun.checked(result, f"{type(command).__qualname__}.call")
