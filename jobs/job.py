"""MandateJob: an rq Job with the command it runs, its state, and a check of the functions it may call."""

from collections.abc import Callable, Coroutine
from inspect import signature
from math import ceil
from typing import TYPE_CHECKING, Any, Generic, overload

from redis import Redis
from rq import Queue
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from jobs import control
from jobs.broker import keys
from jobs.broker.connections import get_connection
from jobs.broker.times import as_text, number_of, time_of
from jobs.errors import DurabilityError, PrereqJobNotFinishedError
from jobs.limits import holders
from jobs.outbox import rows
from jobs.record import allowlist, arguments, display, history, payload, prerequisites, registry, webhooks
from jobs.record.states import WITH_REASON, JobState, state_of
from jobs.retries import Progress
from jobs.runtime import Transactions
from jobs.waits import reports, waiting
from jobs.waits.waiting import Timeout

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any, covariant=True)
else:
    from typing import TypeVar

    T = TypeVar("T")
V = TypeVar("V")

__all__ = ["JobState", "MandateJob"]


class MandateJob(Job, Generic[T]):
    """
    One deferred run of a command, with one id for life. `MandateJob[T]`: its `call` returns a T.

    `defer` returns it before anything is in Redis, so inside a transaction it has an id but no record yet. It is an
    rq Job, and can be used as one.
    """

    block: Any = None  # of a handle: the batch's block that writes it at its end
    is_written = True  # of a handle: whether its record has been written; False after a rollback, too
    transactions: Transactions | None = None  # of a handle: those that must commit first
    is_awaited = False  # of a handle: whether a job was written that waits for it, before it was known as written
    written_at = 0.0  # of a handle: when its record was written, in seconds since the epoch
    is_durable = False  # of a handle: whether the outbox has it until Redis does
    duplicate = False  # of a handle: whether it refers to an earlier job: its command is unique, or it has collapsed

    # The spelling of the original.
    PreqJobNotFinishedError = PrereqJobNotFinishedError

    def __init__(self, id: str | None = None, connection: Redis | None = None, serializer: Any = None) -> None:
        super().__init__(connection=connection, serializer=serializer or JSONSerializer)
        if id is not None:
            self._id = id  # unchecked: it may have been written by what does not ask RQ for ids, and is to be shown

    @classmethod
    def handle(cls, id: str, queue: str, payload: bytes, connection: Redis) -> "MandateJob":
        """Return a handle to a job that is about to be written, without a call to Redis."""
        job = cls.__new__(cls)
        job.__dict__ = {"_id": id, "origin": queue, "_data": payload, "connection": connection, "is_written": False}
        return job

    @classmethod
    def create(cls, func: Any, args: Any = None, kwargs: Any = None, *others: Any, **options: Any) -> Any:
        """As RQ's. Raises DurabilityError for `durable`, unless the function takes an argument of that name."""
        if kwargs and "durable" in kwargs and callable(func) and "durable" not in signature(func).parameters:
            raise DurabilityError(
                f"{func.__module__}.{func.__qualname__} is a plain RQ function, and durable={kwargs['durable']!r} an "
                "option of commands: RQ's own code writes its jobs into Redis alone. Make it a command."
            )
        return super().create(func, args, kwargs, *others, **options)

    def become(self, id: str) -> None:
        """Refer to an earlier job from now on: this one was a duplicate or has collapsed, and was not written."""
        vars(self).update(_id=id, is_written=True, duplicate=True)

    @staticmethod
    def perform_now(name: str, /, *args: Any, prereq_jobs: prerequisites.Given | None = None, **kwargs: Any) -> Any:
        """
        Run a command by its name, in this process, and return the result of its `call`.

        Raises PrereqJobNotFinishedError if one of `prereq_jobs` has not finished, UnknownCommandError.
        """
        command: Any = registry.get(name)
        client = get_connection(command.queue)
        prerequisites.demand_finished(client, prerequisites.Prerequisites(tuple(prereq_jobs or ())).ids())
        return command.run(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        # A handle skips rq's `__init__`, which costs more than all the rest of `defer`. The first access to an
        # attribute that the handle lacks calls it.
        own = vars(self)
        if "serializer" in own or "connection" not in own:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        kept = dict(own)
        MandateJob.__init__(self, connection=own["connection"])
        own.update(kept)
        return getattr(self, name)

    def restore(self, raw_data: Any) -> None:
        """As RQ's, whose time limits are whole seconds; here they may be fractional."""
        limit = as_text(raw_data.get(b"timeout") or b"")
        if "." in limit:
            raw_data = {**raw_data, b"timeout": str(ceil(float(limit)))}
        super().restore(raw_data)
        if "." in limit:
            self.timeout = float(limit)

    @property
    def state(self) -> JobState | None:
        """
        The current state, read from Redis. UNSENT if only the outbox has it, which is read first for a handle of a
        durable job that is not written. None if Redis has no record: the transaction has not committed or was rolled
        back, or the job finished more than its `result_ttl` ago. None, too, if the status in its record is unknown.
        """
        if self.is_durable and not self.is_written and rows.find(self.id):
            return JobState.UNSENT
        status, state = self.connection.hmget(self.key, "status", "state")
        is_plain_handle = "is_written" in vars(self) and not self.is_durable
        if status is None and rows.is_on() and not is_plain_handle:
            if rows.find(self.id):
                return JobState.UNSENT
            status, state = self.connection.hmget(self.key, "status", "state")  # a relay may have sent it meanwhile
        if status is None:
            return None
        try:
            current = state_of(as_text(status), as_text(state or b""))
        except ValueError:
            return None
        if current is JobState.WAITING and prerequisites.blocking(self.connection, self.id):
            return JobState.BLOCKED
        return current

    @property
    def reason(self) -> str | None:
        """Why it is dead, discarded, cancelled, retrying, postponed or limited, in one line; None in other states."""
        status, reason, lane = self.connection.hmget(self.key, "status", "reason", "lane")
        if lane and status == JobStatus.DEFERRED.value.encode():
            return display.text(holders.reason(self.connection, as_text(lane)))
        return display.text(as_text(reason)) if reason and status and as_text(status) in WITH_REASON else None

    @property
    def history(self) -> list[history.Event]:
        """
        Its events, the oldest first; at most the last 100 special ones. The full errors of the last 10 attempts are in
        `results()`.
        """
        names = ("status", "created_at", "started_at", "ended_at", "history", "collapsed")
        fields: Any = self.connection.hmget(self.key, *names)
        status, created, started, ended, special, collapsed = fields
        marks = [("queued", created), ("started", started)]
        if status == JobStatus.FINISHED.value.encode():
            marks.append(("finished", ended))
        events = [history.Event(name=name, at=at) for name, text in marks if (at := time_of(text))]
        events += [*history.collapsed(collapsed or b""), *history.read(special or b"")]
        # Nothing comes before the first: the clocks of two processes may differ by a millisecond.
        return sorted(events, key=lambda event: (event.name != "queued", event.at))

    @property
    def progress(self) -> Progress:
        """How many attempts it has made, and how many retries and requeues it has used."""
        try:
            if self.state is JobState.DEAD and (attempts := self._field("attempts")):
                return Progress(
                    attempts=int(number_of(attempts))
                )  # what it has used is deleted, because a retry begins afresh
            return Progress.load(self._field("progress"))
        except ValueError:
            return Progress()

    @overload
    def wait(self: "MandateJob[Coroutine[Any, Any, V]]", timeout: Timeout = None) -> V: ...
    @overload
    def wait(self, timeout: Timeout = None) -> T: ...
    def wait(self, timeout: Timeout = None) -> Any:
        """
        Wait until the job has ended, and return what `call` has returned. `timeout`: seconds, or a timedelta, at most;
        None: as long as it takes. The script that ends the job wakes the wait; nothing polls.

        Raises JobFailedError if it is dead, discarded, cancelled or deleted; WaitTimeoutError if it has not ended in
        time; ResultUnavailableError if its result is not kept; WaitRefusedError where it could never end;
        RedisUnavailableError; ValueError for an impossible `timeout`.
        """
        return waiting.wait(self, timeout)

    @overload
    async def await_result(self: "MandateJob[Coroutine[Any, Any, V]]", timeout: Timeout = None) -> V: ...
    @overload
    async def await_result(self, timeout: Timeout = None) -> T: ...
    async def await_result(self, timeout: Timeout = None) -> Any:
        """`wait` for async code: thousands of coroutines may await jobs over one connection of the process."""
        return await waiting.await_result(self, timeout)

    @property
    def report(self) -> reports.Report | None:
        """How far it was when it last said so with `self.report`; None if it has not."""
        return reports.read(self._field("report"))

    @property
    def prerequisites(self) -> list[str]:
        """The ids of its prerequisites, finished or not; none if the record's field cannot be read."""
        return prerequisites.listed(self._field("prereqs"))

    @property
    def dependents(self) -> set[str]:
        """The ids of the commands' jobs that wait for this one."""
        waiting = [keys.dependents(self.id), keys.followers(self.id)]
        return {as_text(member) for member in self.connection.sunion(waiting)}

    def cancel(
        self, pipeline: Any = None, enqueue_dependents: bool = False, remove_from_dependencies: bool = False
    ) -> Any:
        """Cancel the job with `jobs.control.cancel`. RQ's own code handles plain RQ jobs and plain dependents."""
        if self._is_plain():
            return super().cancel(pipeline, enqueue_dependents, remove_from_dependencies)
        control.cancel(self)
        if enqueue_dependents:
            Queue(self.origin, connection=self.connection, job_class=type(self)).enqueue_dependents(self)
        return {}

    def requeue(self, at_front: bool = False) -> "MandateJob":
        """Run a dead job again, with a fresh budget: `jobs.control.retry`. RQ's own code requeues a plain RQ job."""
        if self._is_plain():
            return super().requeue(at_front)  # type: ignore[return-value]
        control.retry(self, at_front=at_front)
        return self

    def delete(self, *args: Any, **kwargs: Any) -> None:
        """Delete the job with `jobs.control.delete`. RQ's own code deletes a plain RQ job."""
        if self._is_plain():
            super().delete(*args, **kwargs)
        elif self.connection.exists(self.key):
            control.delete(self)

    @property
    def call_log(self) -> str:
        """The last lines that its last attempt logged; kept if it failed, or if the command has `keep_log`."""
        return display.text(self._field("log").decode(errors="replace"))

    def return_value(self, refresh: bool = False) -> Any:
        """Return the result of `call` while the finished job is kept; None before. Records in it are fetched."""
        value = super().return_value(refresh)
        return arguments.decode(value) if isinstance(value, dict | list) else value

    @property
    def command_name(self) -> str | None:
        """The name of its command, such as `users.SendWelcomeEmail`; None for a plain RQ job."""
        return self.args[0] if self._runs_a_command() else None

    @property
    def command_args(self) -> list[Any]:
        """The command's positional arguments, decoded: records are fetched."""
        return arguments.decode(self.args[1:])  # type: ignore[no-any-return]

    @property
    def command_kwargs(self) -> dict[str, Any]:
        """The command's named arguments, decoded: records are fetched."""
        return {name: arguments.decode(value) for name, value in self.kwargs.items()}

    @property
    def func(self) -> Callable[..., Any]:
        """
        The function that the job calls. RQ's own Job would import any function that the payload names.

        Raises ForbiddenFunctionError for a function that jobs may not call.
        """
        if self.instance is not None:
            return allowlist.resolve(self.instance)  # always refused: jobs call no methods
        return allowlist.resolve(self.func_name)

    @property
    def success_callback(self) -> Any:
        """RQ's callback. The payload names it, so the rule of `func` applies: ForbiddenFunctionError."""
        return allowlist.resolve(self._success_callback_name) if self._success_callback_name else None

    @property
    def failure_callback(self) -> Any:
        """As `success_callback`."""
        return allowlist.resolve(self._failure_callback_name) if self._failure_callback_name else None

    @property
    def stopped_callback(self) -> Any:
        """As `success_callback`."""
        return allowlist.resolve(self._stopped_callback_name) if self._stopped_callback_name else None

    def send_webhooks(self, status: Any, *, exc_string: str | None = None) -> None:
        """Send RQ's webhooks for this status, only to hosts in JOBS["WEBHOOK_HOSTS"]. Raises nothing."""
        for webhook in self.webhooks:
            if webhook.job_status == status:
                webhooks.send(webhook, self, exc_string)

    @property
    def description(self) -> str | None:
        """The call in readable form. It is derived, so that it need not be stored with each job."""
        if self._description is not None:
            return display.text(self._description)
        try:
            if not self._runs_a_command():
                return display.text(self.get_call_string() or "")
            name, *args = self.args
            return display.call(name, args, self.kwargs)
        except Exception:  # a page that lists jobs must show an unreadable one too
            return "(unreadable payload)"

    @description.setter
    def description(self, value: str | None) -> None:
        self._description = value

    def _field(self, name: str) -> bytes:
        value: Any = self.connection.hget(self.key, name)
        return value or b""

    def _is_plain(self) -> bool:
        try:
            return not self._runs_a_command()
        except Exception:  # an unreadable payload: our own operations do not read it
            return False

    def _runs_a_command(self) -> bool:
        return payload.names_command(self.func_name, self.args)
