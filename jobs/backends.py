"""
Direct jobs: Django's own Tasks API on these workers.

    TASKS = {"default": {"BACKEND": "jobs.backends.RQBackend"}}

A task runs as the command `jobs.RunTask`, so it has the same retries, deadlock rule and page as every job.
"""

import json
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from inspect import iscoroutinefunction
from typing import Any, cast

from asgiref.sync import sync_to_async
from django.apps import apps
from django.core.checks import CheckMessage, Error
from django.utils import timezone
from rq.utils import str_to_date

from jobs import conf, queues, unrun
from jobs.broker.times import as_django
from jobs.client import options, tracing
from jobs.client.new_job import new_job
from jobs.errors import ForbiddenFunctionError, NewerPayloadError, PayloadError
from jobs.inspection import find
from jobs.job import JobState, MandateJob
from jobs.mandate import Mandate
from jobs.outbox import hooks
from jobs.record import registry
from jobs.runtime import passage
from jobs.safe_logging import safe_logger
from jobs.tasks import (
    BaseTaskBackend,
    InvalidTask,
    Task,
    TaskContext,
    TaskError,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    normalize_json,
    task_enqueued,
    task_finished,
    task_started,
)

logger = safe_logger("jobs")

_STATUSES = {
    JobState.RUNNING: TaskResultStatus.RUNNING,
    JobState.FINISHED: TaskResultStatus.SUCCESSFUL,
    JobState.DEAD: TaskResultStatus.FAILED,
    JobState.DISCARDED: TaskResultStatus.FAILED,
    JobState.CANCELLED: TaskResultStatus.FAILED,
}


class RunTask(Mandate):
    """One task as a job."""

    path: str
    args: list[Any]
    kwargs: dict[str, Any]
    backend: str = "default"

    def __post_init__(self) -> None:
        self._task = task_of(self.path, self.backend)  # no command is built of a payload that cannot be run
        self.is_async = iscoroutinefunction(self._task.func)  # type: ignore[misc]  # of other commands, the class's

    @passage
    def call(self) -> Any:
        """Run the task to completion; for an `async def` task, return the coroutine that does."""
        if self.is_async:
            return self._call_async()
        function, args, result = self._begin()
        return self._end(result, function(*args, **self.kwargs))

    @passage
    async def _call_async(self) -> Any:
        function, args, result = await sync_to_async(self._begin)()
        return await sync_to_async(self._end)(result, await function(*args, **self.kwargs))

    def _begin(self) -> tuple[Callable[..., Any], list[Any], Any]:
        task, result = self._task, self._result()
        task_started.send(RQBackend, task_result=result)
        args = [TaskContext(task_result=result), *self.args] if task.takes_context else self.args
        return task.func, args, result

    def _end(self, result: Any, value: Any) -> Any:
        returned = _plain(unrun.checked(value, self.path), self.path)
        result = replace(result, status=TaskResultStatus.SUCCESSFUL, finished_at=timezone.now())
        object.__setattr__(result, "_return_value", returned)  # as Django's own backends do
        task_finished.send_robust(RQBackend, task_result=result)  # the work is done, whatever a receiver raises
        return returned

    def on_dead(self, error: BaseException) -> None:
        """Send `task_finished`: Django sends it for tasks that have failed for good, too, but not before a retry."""
        result = self._result()
        errors = [*result.errors, _error("".join(traceback.format_exception(error)))]
        result = replace(result, status=TaskResultStatus.FAILED, finished_at=timezone.now(), errors=errors)
        task_finished.send(RQBackend, task_result=result)

    def _result(self) -> Any:
        assert self.job is not None  # noqa: S101
        return result_of(self.job)


class RQBackend(BaseTaskBackend):
    """
    Runs tasks as jobs, which are written when the open transactions commit, in the queue of their `queue_name`.
    `run_after` schedules the job. A priority above 0 puts it at the head of its queue, any other at the tail. Arguments
    and results are plain JSON, as the Tasks API requires.
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        if "QUEUES" not in params:
            self.queues = {*conf.queues(), conf.DEFAULT_QUEUE}

    def validate_task(self, task: Any) -> None:
        """Refuse an invalid task, when it is defined and when it is enqueued. Raises InvalidTask with the reason."""
        super().validate_task(task)
        if (kind := unrun.kind_of(task.func)) in (unrun.GENERATOR, unrun.ASYNC_GENERATOR):
            raise InvalidTask(
                f"{task.module_path} is {kind}: a call would not run its body. Do the work in it, without `yield`."
            )

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """
        Enqueue a task as a job. Returns its result, whose id is the job's.

        Its `enqueued_at` is None until the open transactions have committed. Raises the errors of Django's own backends
        for an invalid task, ForbiddenFunctionError for a task that workers could not import, TypeError for arguments
        that are not JSON, RedisUnavailableError.
        """
        self.validate_task(task)
        try:
            task_of(task.module_path, self.alias)
        except NewerPayloadError as error:
            raise ForbiddenFunctionError(str(error)) from None  # workers could not import it
        queue = queues.of_class(task.queue_name)
        result: Any = _result(task, self.alias, args, kwargs)  # converts the arguments to plain JSON, or refuses them
        fields = {"path": task.module_path, "args": result.args, "kwargs": result.kwargs, "backend": self.alias}
        due = options.bounded("run_after", task.run_after) if task.run_after is not None else None
        with tracing.sending(RunTask, queue) if tracing.is_on else tracing.UNTRACED as note:
            context, durable = tracing.context() if tracing.is_on else b"", hooks.is_durable(RunTask, None)
            new = new_job(RunTask, (), fields, queue=queue, due=due, context=context, durable=durable)
            note((new,))
            (job,) = queues.push((new._replace(at_front=task.priority > 0),))
        result = _result(task, self.alias, args, kwargs, job)
        queues.on_commit(lambda: self._send_enqueued(result, job))
        return result

    def _send_enqueued(self, result: Any, job: MandateJob) -> None:
        """Send the signal once the task is written: immediately, or when the open transactions have committed."""
        object.__setattr__(result, "enqueued_at", as_django(datetime.fromtimestamp(job.written_at, UTC)))
        task_enqueued.send(type(self), task_result=result)

    def get_result(self, result_id: str) -> Any:
        """Return the result of a task. TaskResultDoesNotExist if it has no record, or the job runs no task of ours."""
        job = find(result_id)
        if job is None or job.command_name != registry.name_of(RunTask) or job.command_kwargs["backend"] != self.alias:
            raise TaskResultDoesNotExist(result_id)
        try:
            return result_of(job)
        except PayloadError as error:  # its task is not in this release
            raise TaskResultDoesNotExist(result_id) from error

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """jobs.E009: a queue of the backend is not listed."""
        return [
            *super().check(**kwargs),
            *(
                Error(
                    f"TASKS[{self.alias!r}] names the queue {name!r}, which does not exist.",
                    hint=f"The queues are: {', '.join(conf.queues())}.",
                    id="jobs.E009",
                )
                for name in sorted(self.queues - {*conf.queues(), conf.DEFAULT_QUEUE})
            ),
        ]


def _plain(value: Any, path: str) -> Any:
    """Return a task's result as plain JSON; the name of its type for any other value: the work is done all the same."""
    try:
        return json.loads(json.dumps(normalize_json(value), allow_nan=False, ensure_ascii=False).encode())
    except Exception as error:  # of the value's own code, too
        shown = f"<{type(value).__qualname__}>"
        logger.warning("task %s returned what is not JSON, so its result is %r: %s", path, shown, type(error).__name__)
        return shown


def result_of(job: MandateJob) -> Any:
    """Return the TaskResult of a task's job."""
    fields = job.command_kwargs
    task = task_of(fields["path"], fields["backend"])
    return _result(task, fields["backend"], fields["args"], fields["kwargs"], job, read=True)


def task_of(path: str, backend: str) -> Any:
    """
    Return the task at a dotted path, if an installed app defines it at the top of a module.

    Raises NewerPayloadError if nothing has that name: a newer release may have brought the task. ForbiddenFunctionError
    if it is no task: a payload must not choose freely.
    """
    module, _, name = path.rpartition(".")
    found = _names_of(module).get(name) if module and apps.get_containing_app_config(module) else None
    if found is None:
        raise NewerPayloadError(
            f"There is no task {path!r} at the top of a module of an installed app. Either this release is older than "
            "the one that enqueued it, or it was renamed or removed."
        )
    if not isinstance(found, Task) or found.module_path != path:
        raise ForbiddenFunctionError(f"{path!r} is not a task at the top of a module of an installed app.")
    return found if found.backend == backend else found.using(backend=backend)


def _names_of(module: str) -> dict[str, Any]:
    """Return what a module defines; nothing for a module that does not exist. Raises any other error of its import."""
    try:
        return vars(import_module(module))
    except ModuleNotFoundError as error:
        if f"{module}.".startswith(f"{error.name}."):
            return {}
        raise


def _result(
    task: Any,
    alias: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    job: MandateJob | None = None,
    *,
    read: bool = False,
) -> Any:
    fields = _fields(job) if job is not None and read else {}
    result: Any = TaskResult(
        task=task,
        id=job.id if job is not None else "",
        status=fields.get("status", TaskResultStatus.READY),
        enqueued_at=fields.get("enqueued_at"),
        started_at=fields.get("started_at"),
        finished_at=fields.get("finished_at"),
        last_attempted_at=fields.get("started_at"),
        args=list(args),
        kwargs=dict(kwargs),
        backend=alias,
        errors=fields.get("errors", []),
        worker_ids=fields.get("worker_ids", []),
    )
    if fields.get("status") == TaskResultStatus.SUCCESSFUL:
        object.__setattr__(result, "_return_value", job.return_value() if job is not None else None)  # as Django's own
    return result


def _fields(job: MandateJob) -> dict[str, Any]:
    names = ("enqueued_at", "created_at", "started_at", "ended_at", "worker_name")
    enqueued, created, started, ended, worker = cast(Any, job.connection.hmget(job.key, *names))
    failures = [result for result in reversed(job.results()) if result.exc_string]
    status = _STATUSES.get(job.state or JobState.QUEUED, TaskResultStatus.READY)
    is_over = status in (TaskResultStatus.SUCCESSFUL, TaskResultStatus.FAILED)
    workers = [result.worker_name for result in failures]
    if worker and status in (TaskResultStatus.RUNNING, TaskResultStatus.SUCCESSFUL):
        workers.append(worker.decode())
    return {
        "status": status,
        "enqueued_at": _time(enqueued or created),
        "started_at": _time(started),
        "finished_at": _time(ended) if is_over else None,
        "worker_ids": workers,
        "errors": [_error(result.exc_string or "") for result in failures],
    }


def _error(text: str) -> TaskError:
    """
    Return the TaskError of a traceback. Its class is named on the first line after the frames; of a chain, the last
    error counts. The lines of a group begin with a bar.
    """
    of_last = re.split(r"\n\n(?:The above|During handling of the above) exception.*\n\n", text)[-1]
    lines = [line.removeprefix("  | ") for line in of_last.splitlines() if not line.startswith("Traceback (")]
    name = next((line for line in lines if re.match(r"[^\W\d]", line)), "Exception").partition(":")[0]
    return TaskError(exception_class_path=name if "." in name else f"builtins.{name}", traceback=text)


def _time(value: bytes | None) -> datetime | None:
    return as_django(str_to_date(value)) if value else None
