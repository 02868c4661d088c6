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
    ParamSpec,
    Protocol,
    TypeVar,
    dataclass_transform,
    overload,
)

import orjson
from asgiref.sync import async_to_sync, sync_to_async

from jobs import allowed, arguments, options, queues, registry
from jobs.connections import get_connection
from jobs.errors import CommandDefinitionError, SerializationError
from jobs.job import MandateJob
from jobs.queues import NewJob

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
Row = Sequence[Any] | Mapping[str, Any]


class _Calls(Protocol[R]):
    def call(self) -> R: ...


class _CallsAsync(Protocol[R]):
    def call(self) -> Coroutine[Any, Any, R]: ...


@dataclass_transform(eq_default=False)
class Mandate:
    """
    A command: what it needs as annotated fields, what it does in `call`, how it is queued as class attributes.

        class ProcessSubmission(Mandate):
            queue = "critical"
            submission_id: int

            def call(self):
                ...

    `ProcessSubmission.run(7)` runs it here and returns what `call` returned; `ProcessSubmission.defer(7)` makes a job
    of it. Fields follow the rules of dataclasses. Class options and their defaults: `jobs.options.DEFAULTS`;
    subclasses inherit them.
    """

    queue: ClassVar[str] = options.DEFAULTS["queue"]
    timeout: ClassVar[float | None] = options.DEFAULTS["timeout"]
    result_ttl: ClassVar[int] = options.DEFAULTS["result_ttl"]
    keep_log: ClassVar[bool] = options.DEFAULTS["keep_log"]
    log_arguments: ClassVar[bool] = options.DEFAULTS["log_arguments"]

    is_async: ClassVar[bool] = False  # whether `call` is a coroutine function

    def __init_subclass__(cls, *, kw_only: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        options.check_fields(cls)
        options.check_options(cls)
        dataclasses.dataclass(eq=False, repr=False, kw_only=kw_only)(cls)
        cls.is_async = inspect.iscoroutinefunction(cls.call)
        if cls.call is not Mandate.call:  # else it is a base for commands, not one
            registry.register(cls)

    def call(self) -> Any:
        """What the command does. Every command defines it."""
        raise CommandDefinitionError(f"{type(self).__qualname__} has no `call`. Define what the command does there.")

    @property
    def job(self) -> MandateJob | None:
        """The job that is running this command; None when it was called with `run`."""
        own = vars(self)
        if "_job" not in own and "_claim" in own:  # made when it is asked for: few commands ask
            claim = own["_claim"]
            own["_job"] = MandateJob.handle(
                claim.job_id,
                queue=claim.queue_name,
                payload=claim.payload,
                connection=get_connection(claim.queue_name),
            )
        return own.get("_job")

    def __repr__(self) -> str:
        name = type(self).__qualname__
        if not self.log_arguments:
            return f"{name}(...)"
        shown = (f"{f.name}={getattr(self, f.name, '?')!r}" for f in dataclasses.fields(self) if f.repr)  # type: ignore[arg-type]
        return f"{name}({', '.join(shown)})"

    @overload
    @classmethod
    def run(cls: Callable[P, _CallsAsync[R]], *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    @classmethod
    def run(cls: Callable[P, _Calls[R]], *args: P.args, **kwargs: P.kwargs) -> R: ...
    @classmethod
    def run(cls, *args: Any, **kwargs: Any) -> Any:
        """
        Run the command now, in this process, and return what `call` returns. Takes the command's fields.

        An `async def call` is run to its end; inside a running event loop use `await Command.arun(...)`.
        """
        return invoke(cls(*args, **kwargs))

    @classmethod
    async def arun(cls: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> Any:
        """`run`, for async code: an `async def call` is awaited, another runs in Django's thread for such work."""
        command = cls(*args, **kwargs)
        if command.is_async:
            return finished(command, await command.call())
        return await sync_to_async(invoke)(command)

    @overload
    @classmethod
    def defer(cls: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> MandateJob: ...
    @overload
    @classmethod
    def defer(cls, *args: Any, wait: float | timedelta, queue: str = ..., **fields: Any) -> MandateJob: ...
    @overload
    @classmethod
    def defer(cls, *args: Any, wait_until: datetime, queue: str = ..., **fields: Any) -> MandateJob: ...
    @overload
    @classmethod
    def defer(cls, *args: Any, queue: str, **fields: Any) -> MandateJob: ...
    @classmethod  # type: ignore[misc]  # mypy cannot see that options are never fields
    def defer(
        cls,
        *args: Any,
        wait: float | timedelta | None = None,
        wait_until: datetime | None = None,
        queue: str | None = None,
        **fields: Any,
    ) -> MandateJob:
        """
        Make a job of the command, once the transactions that are open now commit. Takes the command's fields, and:

        `wait` seconds or a timedelta from now, or `wait_until` an aware datetime; `queue` instead of the class's own.

        Returns the job; its `id` is known at once. Raises TypeError for fields that do not fit, SerializationError for
        an argument that cannot be sent, ValueError for an impossible option, UnknownQueueError,
        RedisUnavailableError.
        """
        queue = queues.check(queue or cls.queue)
        new = _new_job(cls, args, fields, queue, options.due(wait, wait_until))
        queues.push((new,))
        return MandateJob.handle(new.id, queue=queue, payload=new.payload, connection=get_connection(queue))

    @classmethod
    async def adefer(cls, *args: Any, **fields_and_options: Any) -> MandateJob:
        """`defer`, for async code."""
        return await sync_to_async(cls.defer)(*args, **fields_and_options)

    @classmethod
    def defer_many(
        cls,
        rows: Iterable[Row],
        *,
        wait: float | timedelta | None = None,
        wait_until: datetime | None = None,
        queue: str | None = None,
    ) -> list[MandateJob]:
        """
        Make a job of each row, 1,000 a round trip. A row is a tuple of positional fields or a dict of named ones.

        Returns the jobs in order. All rows are checked before any is written; errors and options are those of `defer`.
        """
        queue = queues.check(queue or cls.queue)
        due = options.due(wait, wait_until)
        new_jobs = []
        for number, row in enumerate(rows):
            args, fields = ((), row) if isinstance(row, Mapping) else (row, {})
            try:
                new_jobs.append(_new_job(cls, args, fields, queue, due))
            except (TypeError, SerializationError) as error:
                error.add_note(f"This was row {number} of defer_many; no row was enqueued.")
                raise
        queues.push(new_jobs)
        connection = get_connection(queue)
        return [MandateJob.handle(new.id, queue=queue, payload=new.payload, connection=connection) for new in new_jobs]

    @classmethod
    def using(
        cls: Callable[P, object],
        *,
        wait: float | timedelta | None = None,
        wait_until: datetime | None = None,
        queue: str | None = None,
    ) -> "Deferral[P]":
        """The options of `defer` bound first, so that a type checker still sees the fields: `.using(...).defer(7)`."""
        return Deferral(partial(cls.defer, wait=wait, wait_until=wait_until, queue=queue))  # type: ignore[attr-defined]


class Deferral(Generic[P]):
    """A command with the options of its `defer` bound; made by `using`."""

    def __init__(self, defer: Callable[..., MandateJob]) -> None:
        self._defer = defer

    def defer(self, *args: P.args, **kwargs: P.kwargs) -> MandateJob:
        """`Command.defer` with the options given to `using`. Takes the command's fields."""
        return self._defer(*args, **kwargs)


def invoke(command: Mandate) -> Any:
    """Run a command's `call`, of either colour, to its end."""
    if command.is_async:
        return finished(command, async_to_sync(command.call)())
    return finished(command, command.call())


def finished(command: Mandate, result: Any) -> Any:
    """What `call` returned; TypeError for a coroutine that nobody awaited, which would look like success."""
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError(
            f"{type(command).__qualname__}.call returned a coroutine nobody awaited. Make it `async def call`."
        )
    return result


def _new_job(
    command: type[Mandate],
    args: Sequence[Any],
    fields: Mapping[str, Any],
    queue: str,
    due: float | None,
) -> NewJob:
    name = registry.name_of(command)
    if command.call is Mandate.call:
        raise CommandDefinitionError(f"{name} cannot be deferred: it has no `call`.")
    try:
        command(*args, **fields)  # binds the arguments here, where the mistake is, and not in the worker
    except TypeError as error:
        raise _misfit(command, name, args, fields) or error from None
    payload = orjson.dumps(
        [
            allowed.PERFORM,
            None,
            [name, *_encoded(command, name, args)],
            _encoded_named(name, fields),
        ]
    )
    own: tuple[str | int, ...] = ()
    if command.timeout != options.DEFAULTS["timeout"]:
        own += ("timeout", -1 if command.timeout is None else repr(command.timeout))
    if command.result_ttl != options.DEFAULTS["result_ttl"]:
        own += ("result_ttl", command.result_ttl)
    return NewJob(queues.new_id(), queue, payload, due, own)


def _misfit(command: type, name: str, args: Sequence[Any], fields: Mapping[str, Any]) -> TypeError | None:
    signature = inspect.signature(command)
    try:
        signature.bind(*args, **fields)
    except TypeError as error:
        return TypeError(
            f"{name} cannot be deferred: {error}. It takes {signature.replace(return_annotation=signature.empty)}."
        )
    return None


def _encoded(command: type, name: str, args: Sequence[Any]) -> list[Any]:
    encoded = []
    for position, value in enumerate(args):
        try:
            encoded.append(arguments.encode(value))
        except SerializationError as error:
            raise _unsendable(name, list(inspect.signature(command).parameters)[position], error) from None
    return encoded


def _encoded_named(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    encoded = {}
    for field, value in fields.items():
        try:
            encoded[field] = arguments.encode(value)
        except SerializationError as error:
            raise _unsendable(name, field, error) from None
    return encoded


def _unsendable(name: str, field: str, error: SerializationError) -> SerializationError:
    return SerializationError(f"{name} cannot be deferred: its argument {field!r}, or something in it, {error}.")
