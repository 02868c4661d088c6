"""MandateJob: an rq Job that knows which command it runs, in which state it is, and whom it may call."""

import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from redis import Redis
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.utils import as_text

from jobs import allowed, arguments, conf, registry
from jobs.errors import UnknownCommandError

logger = logging.getLogger("jobs")

DESCRIPTION_LENGTH = 500  # characters


class JobState(StrEnum):
    """Where a job is in its life, in this project's words."""

    QUEUED = "queued"
    RUNNING = "running"
    SCHEDULED = "scheduled"
    WAITING = "waiting"
    FINISHED = "finished"
    DEAD = "dead"
    DISCARDED = "discarded"
    CANCELLED = "cancelled"


_STATES = {
    JobStatus.CREATED: JobState.WAITING,
    JobStatus.READY_TO_ENQUEUE: JobState.WAITING,
    JobStatus.DEFERRED: JobState.WAITING,
    JobStatus.RATE_LIMITED: JobState.WAITING,
    JobStatus.QUEUED: JobState.QUEUED,
    JobStatus.SCHEDULED: JobState.SCHEDULED,
    JobStatus.STARTED: JobState.RUNNING,
    JobStatus.FINISHED: JobState.FINISHED,
    JobStatus.FAILED: JobState.DEAD,
    JobStatus.STOPPED: JobState.DEAD,
    JobStatus.CANCELED: JobState.CANCELLED,
}


class MandateJob(Job):
    """
    One deferred run of a command, with one id for life.

    `defer` returns it before anything is in Redis, so inside a transaction it has an id but no record yet. It is an
    rq Job, and can be used as one.
    """

    def __init__(self, id: str | None = None, connection: Redis | None = None, serializer: Any = None) -> None:
        super().__init__(id, connection=connection, serializer=serializer or JSONSerializer)

    @classmethod
    def handle(cls, id: str, *, queue: str, payload: bytes, connection: Redis) -> "MandateJob":
        """The job that is about to be written: what is known of it without asking Redis."""
        job = cls.__new__(cls)
        vars(job).update(_id=id, origin=queue, _data=payload, connection=connection)
        return job

    def __getattr__(self, name: str) -> Any:
        # A handle has not been through rq's `__init__`, which costs more than all the rest of `defer`: it goes through
        # it when something is asked for that it does not have.
        own = vars(self)
        if "serializer" in own or "connection" not in own:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        known = dict(own)
        MandateJob.__init__(self, connection=own["connection"])
        own.update(known)
        return getattr(self, name)

    @property
    def state(self) -> JobState | None:
        """
        Its state now, as Redis says. None when Redis has no record: the transaction has not committed or was rolled
        back, or the job finished more than its `result_ttl` ago.
        """
        status, reason = self.connection.hmget(self.key, "status", "reason")
        if not status:
            return None
        if reason and status == JobStatus.CANCELED.value.encode():
            return JobState.DISCARDED
        return _STATES[JobStatus(as_text(status))]

    @property
    def reason(self) -> str | None:
        """Why it is dead or was discarded, in a line; None otherwise."""
        reason = self.connection.hget(self.key, "reason")
        return as_text(reason) if reason else None

    @property
    def call_log(self) -> str:
        """The last lines that its last attempt logged, where kept: if it failed, or the command has `keep_log`."""
        return as_text(self.connection.hget(self.key, "log") or b"")

    def return_value(self, refresh: bool = False) -> Any:
        """What `call` returned, while the finished job is kept; None before. Records in it are fetched."""
        value = super().return_value(refresh)
        return arguments.decode(value) if isinstance(value, dict | list) else value

    @property
    def command_name(self) -> str | None:
        """The command it runs, `users.SendWelcomeEmail`; None for a plain RQ job."""
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
        What the job calls, where RQ's own Job would import whatever the payload names.

        Raises ForbiddenFunctionError for what jobs may not call.
        """
        if self.instance is not None:
            return allowed.resolve(self.instance)  # always refused: no method of anything is called
        return allowed.resolve(self.func_name)

    @property
    def success_callback(self) -> Any:
        """RQ's callbacks, which a payload names too, pass the same rule as functions: ForbiddenFunctionError."""
        return allowed.resolve(self._success_callback_name) if self._success_callback_name else None

    @property
    def failure_callback(self) -> Any:
        """As `success_callback`."""
        return allowed.resolve(self._failure_callback_name) if self._failure_callback_name else None

    @property
    def stopped_callback(self) -> Any:
        """As `success_callback`."""
        return allowed.resolve(self._stopped_callback_name) if self._stopped_callback_name else None

    def send_webhooks(self, status: Any, *, exc_string: str | None = None) -> None:
        """RQ's webhooks, to the hosts in JOBS["WEBHOOK_HOSTS"] alone: a payload must not choose whom we talk to."""
        hosts = conf.get("WEBHOOK_HOSTS")
        for webhook in self.webhooks:
            if urlsplit(webhook.url).hostname not in hosts:
                logger.warning(
                    "job %s: no webhook to %s: its host is not in JOBS['WEBHOOK_HOSTS']", self.id, webhook.url
                )
        self.webhooks = [webhook for webhook in self.webhooks if urlsplit(webhook.url).hostname in hosts]
        super().send_webhooks(status, exc_string=exc_string)

    @property
    def description(self) -> str | None:
        """The call as a person reads it; derived, so that it need not be stored with each job."""
        if self._description is not None:
            return self._description
        try:
            if not self._runs_a_command():
                return self.get_call_string()
            name, *args = self.args
            if not _shows_arguments(name):
                return f"{name}(...)"
            return arguments.show_call(name, args, self.kwargs)[:DESCRIPTION_LENGTH]
        except Exception:  # a page that lists jobs must show an unreadable one too
            return "(unreadable payload)"

    @description.setter
    def description(self, value: str | None) -> None:
        self._description = value

    def _runs_a_command(self) -> bool:
        return self.func_name == allowed.PERFORM and bool(self.args) and isinstance(self.args[0], str)


def _shows_arguments(name: str) -> bool:
    try:
        return bool(registry.get(name).log_arguments)  # type: ignore[attr-defined]
    except UnknownCommandError:
        return False  # whether they are private is not known here
