"""One job as a list shows it, from the fields of its record; nothing is fetched for it, and nothing in it can fail."""

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from redis import Redis
from rq.utils import as_text

from jobs.broker.times import time_of
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
)

UNREADABLE = "(unreadable job)"


@dataclass(frozen=True, slots=True)
class Row:
    """A job in a list. `at` is what its list is sorted by: when it was enqueued, is due, started or ended."""

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

    @classmethod
    def of(cls, job_id: str, client: Redis, record: Any, score: float, queue: str) -> "Row | None":
        """
        From what `rows.lua` said of it: the payload's size, the payload (empty when that is too large) and the values
        of FIELDS, or a text in their place. None when the job has vanished.
        """
        if not isinstance(record, list):
            return cls(job_id, queue, None, "", UNREADABLE, _text(record)[:200], None, None, None, "", 0, client)
        size, data, *values = record
        known = dict(zip(FIELDS, values, strict=True))
        if not known["status"]:
            return None
        command, description = _call(job_id, queue, client, data, size)
        state = _state(known)
        return cls(
            id=job_id,
            queue=queue,
            state=state,
            command=command,
            description=description,
            reason=display.text(_text(known["reason"])) if as_text(known["status"]) in WITH_REASON else "",
            at=_at(state, known, score),
            started_at=time_of(known["started_at"]),
            ended_at=time_of(known["ended_at"]),
            worker=_text(known["worker_name"]),
            attempts=_attempts(state, known),
            client=client,
        )

    @property
    def error(self) -> str:
        """The class of the error that its reason tells of."""
        return self.reason.partition(":")[0]

    @property
    def searchable(self) -> str:
        """What a free text is looked for in."""
        return f"{self.id} {self.description} {self.reason}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "client"}

    @property
    def job(self) -> MandateJob:
        """The job itself, for what may be done with it."""
        return MandateJob(self.id, connection=self.client)


def _call(job_id: str, queue: str, client: Redis, data: bytes, size: int) -> tuple[str, str]:
    if not data:
        return "", f"(a payload of {size:,} bytes)" if size else UNREADABLE
    text = payload.listed(data)
    if text is None:
        return "", f"(a payload of more than {payload.LISTED:,} bytes)"
    call = payload.peek(text)
    if call is not None:
        try:
            return call.name, display.call(call.name, call.args, call.kwargs)
        except Exception:
            return call.name, UNREADABLE
    try:
        job = MandateJob(job_id, connection=client)
        job.restore({b"data": text, b"origin": queue.encode()})
        return job.command_name or str(job.func_name), job.description or UNREADABLE
    except Exception:  # whatever lies there, the list goes on
        return "", UNREADABLE


def _state(known: dict[str, Any]) -> JobState | None:
    try:
        return state_of(as_text(known["status"]), _text(known["state"]))
    except ValueError:
        return None


def _at(state: JobState | None, known: dict[str, Any], score: float) -> datetime | None:
    if state in (JobState.SCHEDULED, JobState.RETRYING):
        return datetime.fromtimestamp(score, UTC)
    name = {JobState.QUEUED: "enqueued_at", JobState.RUNNING: "started_at"}.get(state or JobState.DEAD, "ended_at")
    return time_of(known[name]) or time_of(known["created_at"])


def _attempts(state: JobState | None, known: dict[str, Any]) -> int:
    try:
        if state == JobState.DEAD and known["attempts"]:
            return int(known["attempts"])  # its progress is forgotten, as whoever retries it begins afresh
        progress = Progress.load(known["progress"] or b"")
        counted = progress.attempts + int(known["interruptions"] or 0)
        is_counted = state in (JobState.SCHEDULED, JobState.RETRYING)  # the last one, by what it ended in
        return counted + (1 if known["started_at"] and not is_counted else 0)
    except ValueError:
        return 0


def _text(value: bytes | None) -> str:
    return value.decode(errors="replace") if value else ""
