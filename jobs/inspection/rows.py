"""One job as a list shows it, built from the fields of its record: without another fetch, and without errors."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from redis import Redis

from jobs.broker.times import as_text, moment, number_of, time_of
from jobs.inspection.matching import is_argument
from jobs.job import JobState, MandateJob
from jobs.record import display, payload
from jobs.record.states import WITH_REASON, state_of
from jobs.retries import Progress

LARGEST = 64 * 1_024  # bytes of a stored payload that a list reads

FIELDS = (
    "status",
    "state",
    "reason",
    "created_at",
    "enqueued_at",
    "started_at",
    "ended_at",
    "worker_name",
    "progress",
    "interruptions",
    "attempts",
    "fingerprint",
)

UNREADABLE = "(unreadable job)"


@dataclass(frozen=True, slots=True)
class Row:
    """A job in a list. `at` is the time that the list is sorted by: when it was enqueued, is due, started or ended."""

    id: str
    queue: str
    state: JobState | None
    command: str  # its name; of a plain RQ job the function's path
    description: str  # the call, as a person may see it
    reason: str
    at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    worker: str
    attempts: int
    client: Redis
    fingerprint: str = ""  # of its last error, by `jobs.inspection.errors`
    call: payload.Call | None = None

    @classmethod
    def of(cls, job_id: str, client: Redis, record: Any, score: float, queue: str) -> "Row | None":
        """
        Build a row from the answer of `rows.lua`: the payload's size, the payload (empty if it is too large) and the
        values of FIELDS; or an error text instead. Returns None if the job no longer exists.
        """
        if not isinstance(record, list):
            return cls(job_id, queue, None, "", UNREADABLE, _text(record)[:200], None, None, None, "", 0, client)
        size, data, *stored = record
        values = dict(zip(FIELDS, stored, strict=True))
        if not values["status"]:
            return None
        command, description, call = called(job_id, queue, client, data, size)
        state = _state(values)
        return cls(
            id=job_id,
            queue=queue,
            state=state,
            command=command,
            description=description,
            reason=display.text(_text(values["reason"])) if as_text(values["status"]) in WITH_REASON else "",
            at=_at(state, values, score),
            started_at=time_of(values["started_at"]),
            ended_at=time_of(values["ended_at"]),
            worker=_text(values["worker_name"]),
            attempts=_attempts(state, values),
            client=client,
            fingerprint=_text(values["fingerprint"]),
            call=call,
        )

    @property
    def error(self) -> str:
        """The class of the error in its reason."""
        return self.reason.partition(":")[0]

    @property
    def searchable(self) -> str:
        """The text that a free-text search matches, besides the id."""
        return f"{self.description} {self.reason}"

    def has_argument(self, field: str, value: str) -> bool:
        """Whether an argument of that name, or any argument for "", has exactly this value and may be shown."""
        shown = display.arguments(self.call.name, self.call.args, self.call.kwargs) if self.call else None
        if self.call is None or shown is None:
            return False
        given = zip(shown, (*self.call.args, *self.call.kwargs.values()), strict=True)
        return any(
            is_argument(encoded, text, value)
            for (name, text), encoded in given
            if field in ("", name) and not display.hides(name)
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the row for JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("client", "call")}

    @property
    def job(self) -> MandateJob:
        """The job itself, to act on it."""
        return MandateJob(self.id, connection=self.client)


def called(job_id: str, queue: str, client: Redis, data: bytes, size: int) -> tuple[str, str, payload.Call | None]:
    """Return a payload's command, the call as a person may see it, and the call itself if it can be read."""
    if not data:
        return "", f"(a payload of {size:,} bytes)" if size else UNREADABLE, None
    text = payload.listed(data)
    if text is None:
        return "", f"(a payload of more than {payload.LISTED:,} bytes)", None
    call = payload.peek(text)
    if call is not None:
        try:
            return call.name, display.call(call.name, call.args, call.kwargs), call
        except Exception:
            return call.name, UNREADABLE, None
    try:
        job = MandateJob(job_id, connection=client)
        job.restore({b"data": text, b"origin": queue.encode()})
        return job.command_name or str(job.func_name), job.description or UNREADABLE, None
    except Exception:  # an unreadable record does not break the list
        return "", UNREADABLE, None


def _state(values: dict[str, Any]) -> JobState | None:
    try:
        return state_of(as_text(values["status"]), _text(values["state"]))
    except ValueError:
        return None


def _at(state: JobState | None, values: dict[str, Any], score: float) -> datetime | None:
    if state in (JobState.SCHEDULED, JobState.RETRYING):
        return moment(score)
    name = {JobState.QUEUED: "enqueued_at", JobState.RUNNING: "started_at"}.get(state or JobState.DEAD, "ended_at")
    return time_of(values[name]) or time_of(values["created_at"])


def _attempts(state: JobState | None, values: dict[str, Any]) -> int:
    try:
        if state == JobState.DEAD and values["attempts"]:
            return int(number_of(values["attempts"]))  # a dead job's progress is deleted, because a retry begins afresh
        progress = Progress.load(values["progress"] or b"")
        counted = progress.attempts + int(number_of(values["interruptions"]))
        is_counted = state in (JobState.SCHEDULED, JobState.RETRYING)  # whether `counted` includes the last attempt
        return counted + (1 if values["started_at"] and not is_counted else 0)
    except ValueError:
        return 0


def _text(value: bytes | None) -> str:
    return value.decode(errors="replace") if value else ""
