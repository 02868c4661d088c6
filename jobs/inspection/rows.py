"""One job as a list shows it, built from the fields of its record: without another fetch, and without errors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from redis import Redis

from jobs.broker.times import as_text, moment, number_of, time_of
from jobs.inspection.matching import is_argument
from jobs.job import JobState, MandateJob
from jobs.record import display, history, payload
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
    "collapsed",
    "lane",
)

SHOWN = (
    "id",
    "queue",
    "state",
    "command",
    "description",
    "reason",
    "at",
    "started_at",
    "ended_at",
    "worker",
    "attempts",
    "fingerprint",
    "collapsed",
)

UNREADABLE = "(unreadable job)"


@dataclass(frozen=True)
class Row:
    """
    A job in a list. A search reads thousands and shows few: what the payload and the fields say is read when asked for.
    """

    id: str
    queue: str
    state: JobState | None
    command: str  # its name; of a plain RQ job the function's path
    client: Redis
    call: payload.Call | None = None
    uncalled: str = ""  # the description, where there is no call
    stored: Mapping[str, Any] = field(default_factory=dict)  # the values of FIELDS
    score: float = 0.0

    @classmethod
    def of(cls, job_id: str, client: Redis, record: Any, score: float, queue: str) -> "Row | None":
        """
        Build a row from the answer of `rows.lua`: the payload's size, the payload (empty if it is too large) and the
        values of FIELDS; or an error text instead. Returns None if the job no longer exists.
        """
        if not isinstance(record, list):
            return cls(job_id, queue, None, "", client, uncalled=UNREADABLE, stored={"reason": record})
        size, data, *stored = record
        values = dict(zip(FIELDS, stored, strict=True))
        if not values["status"]:
            return None
        command, uncalled, call = called(job_id, queue, client, data, size)
        return cls(job_id, queue, _state(values), command, client, call, uncalled, values, score)

    @cached_property
    def description(self) -> str:
        """The call, as a person may see it."""
        if self.call is None:
            return self.uncalled
        try:
            return display.call(self.call.name, self.call.args, self.call.kwargs)
        except Exception:
            return UNREADABLE

    @cached_property
    def reason(self) -> str:
        """Why the job is in its state, as a person may see it; for a record that cannot be read, the error."""
        text = _text(self.stored.get("reason"))
        if "status" not in self.stored:
            return text[:200]
        if self.state is JobState.LIMITED:
            return display.text(_text(self.stored.get("lane")))
        return display.text(text) if as_text(self.stored["status"]) in WITH_REASON else ""

    @cached_property
    def at(self) -> datetime | None:
        """The time that the list is sorted by: when the job was enqueued, is due, started or ended."""
        if self.state in (JobState.SCHEDULED, JobState.RETRYING):
            return moment(self.score)
        name = {JobState.QUEUED: "enqueued_at", JobState.RUNNING: "started_at"}.get(self.state or JobState.DEAD)
        return time_of(self.stored.get(name or "ended_at")) or time_of(self.stored.get("created_at"))

    @property
    def started_at(self) -> datetime | None:
        return time_of(self.stored.get("started_at"))

    @property
    def ended_at(self) -> datetime | None:
        return time_of(self.stored.get("ended_at"))

    @property
    def worker(self) -> str:
        return _text(self.stored.get("worker_name"))

    @property
    def fingerprint(self) -> str:
        """The fingerprint of its last error, by `jobs.inspection.errors`."""
        return _text(self.stored.get("fingerprint"))

    @property
    def collapsed(self) -> int:
        """How many jobs have collapsed into it."""
        return max(0, history.collapses(self.stored.get("collapsed") or b"")[0])

    @property
    def attempts(self) -> int:
        return _attempts(self.state, self.stored)

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
        return {name: getattr(self, name) for name in SHOWN}

    @property
    def job(self) -> MandateJob:
        """The job itself, to act on it."""
        return MandateJob(self.id, connection=self.client)


def called(job_id: str, queue: str, client: Redis, data: bytes, size: int) -> tuple[str, str, payload.Call | None]:
    """Return a payload's command, and the call if it can be read, else a description."""
    if not data:
        return "", f"(a payload of {size:,} bytes)" if size else UNREADABLE, None
    text = payload.listed(data)
    if text is None:
        return "", f"(a payload of more than {payload.LISTED:,} bytes)", None
    call = payload.peek(text)
    if call is not None:
        return call.name, "", call
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


def _attempts(state: JobState | None, values: Mapping[str, Any]) -> int:
    try:
        if state == JobState.DEAD and values.get("attempts"):
            return int(
                number_of(values.get("attempts"))
            )  # a dead job's progress is deleted, because a retry begins afresh
        progress = Progress.load(values.get("progress") or b"")
        counted = progress.attempts + int(number_of(values.get("interruptions")))
        is_counted = state in (JobState.SCHEDULED, JobState.RETRYING)  # whether `counted` includes the last attempt
        return counted + (1 if values.get("started_at") and not is_counted else 0)
    except ValueError:
        return 0


def _text(value: bytes | None) -> str:
    return value.decode(errors="replace") if value else ""
