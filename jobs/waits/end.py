"""The end of a job, as `wait.lua` reads it: the value of `call`, or the error that says why there is none."""

from base64 import b64decode
from typing import Any, NamedTuple

import orjson

from jobs.broker import keys
from jobs.broker.connections import Script, Word
from jobs.broker.times import as_text
from jobs.errors import JobFailedError, PayloadError, ResultUnavailableError, WaitRefusedError
from jobs.record import arguments, display
from jobs.record.states import JobState, state_of

NOTED_FOR = 60  # seconds that a process is noted as one that waits for a job

READ = Script("wait.lua")

_SUCCESSFUL = b"1"  # RQ's type of a result


def places(job_id: str) -> tuple[str, ...]:
    """Return the keys of `wait.lua`."""
    return keys.waiters(job_id), keys.job(job_id), keys.results(job_id)


def words(job_id: str, process: str = "") -> tuple[Word, ...]:
    """Return the arguments of `wait.lua`. `process`: the one to be woken; "" to read only."""
    return job_id, process, NOTED_FOR


class End(NamedTuple):
    """The answer of `wait.lua`, in its order."""

    is_over: int
    status: bytes
    state: bytes
    reason: bytes
    result_ttl: bytes
    kind: bytes
    result: bytes

    @property
    def has_record(self) -> bool:
        return bool(self.status)

    @property
    def other(self) -> str:
        """The job of which this one was a duplicate, or "". It was durable, and the relay has found out."""
        return "" if self.has_record else as_text(self.reason)

    def settles(self, *, is_known: bool) -> bool:
        """Whether there is nothing to wait for. `is_known`: whether the job had been written before it was read."""
        return bool(self.is_over) or (is_known and not self.has_record)

    def value(self, job: Any) -> Any:
        """
        Return what `call` has returned; records in it are fetched.

        Raises JobFailedError, ResultUnavailableError, WaitRefusedError, and MissingRecordError for records that are
        gone.
        """
        if not self.has_record:
            raise self._gone(job)
        state = state_of(as_text(self.status), as_text(self.state))
        if state is not JobState.FINISHED:
            if self.result_ttl == b"0" and state not in (JobState.DEAD, JobState.DISCARDED, JobState.CANCELLED):
                raise no_result(job)
            reason = display.text(as_text(self.reason))
            raise failed(job, state.value, reason)
        if self.kind != _SUCCESSFUL:
            raise ResultUnavailableError(f"{job_text(job)} has finished, but its result is not kept any more.")
        try:
            value = orjson.loads(b64decode(self.result)) if self.result else None
        except ValueError as error:
            raise PayloadError(f"The result of {job_text(job)} cannot be read: {error}") from error
        if isinstance(value, dict) and arguments.LOST in value:
            raise ResultUnavailableError(
                f"{job_text(job)} has finished, but its result could not be kept: {value[arguments.LOST]}. Return "
                "something smaller that JSON can hold, such as a model instance, or store it and return its key."
            )
        return arguments.decode(value) if isinstance(value, dict | list) else value

    def _gone(self, job: Any) -> Exception:
        how = as_text(self.state)
        if how:
            return failed(job, "dead" if how == "trimmed" else how, how)
        return ResultUnavailableError(
            f"{job_text(job)} has no record any more. It has finished, and its `result_ttl` is over."
        )


def failed(job: Any, state: str, reason: str) -> JobFailedError:
    """Build the error of a job that has ended in that state."""
    text = f"{job_text(job)} is {state}" if state != "deleted" else f"{job_text(job)} was deleted"
    return JobFailedError(f"{text}: {reason}" if reason and reason != state else f"{text}.", job.id, state, reason)


def no_result(job: Any) -> WaitRefusedError:
    """Build the error of a job that is forgotten when it finishes."""
    return WaitRefusedError(
        f"{job_text(job)} cannot be waited for: its command has result_ttl = 0, so nothing is kept of its end. "
        "Give the command a result_ttl of some seconds."
    )


def job_text(job: Any) -> str:
    """Name a job and its command, or a batch, in a message."""
    if text := getattr(job, "text", ""):
        return str(text)
    try:
        name = job.command_name or job.func_name
    except Exception:  # its payload cannot be read
        name = ""
    return f"Job {job.id} of {name}" if name else f"Job {job.id}"
