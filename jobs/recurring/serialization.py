"""The recurrence of an entry, or of one of rq-scheduler's own jobs, in its record in Redis."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from django.conf import settings
from redis import Redis

from jobs.broker import keys
from jobs.broker.times import moment
from jobs.recurring.entry import Entry
from jobs.retries import seconds_of


@dataclass(frozen=True, slots=True)
class Owed:
    """The times that an entry had missed when its times were changed: they count by what it was then."""

    first: float  # when it was due as it was changed
    times: list[float]
    at: float  # when it was changed; its new times count from then


@dataclass(frozen=True, slots=True)
class Definition:
    """The recurrence of an entry, or of one of rq-scheduler's own jobs."""

    recurs: Entry | None  # None: it is due once
    repeats_left: int | None = None  # of rq-scheduler's jobs; None: without end
    owed: "Owed | None" = None
    next: float | None = None  # when it would be due, were it not paused, disabled or removed

    def run_id(self, at: datetime) -> str:
        """Return the id of its run at that time."""
        assert self.recurs is not None  # noqa: S101
        return self.recurs.run_id(at)

    def due_by(self, first: datetime, now: datetime, most: int) -> tuple[list[datetime], datetime]:
        """Return its times from `first`, when it is due, to `now`, the latest `most`; and the next time after `now`."""
        assert self.recurs is not None  # noqa: S101
        if self.owed is None or self.owed.first != first.timestamp():
            return self.recurs.due_by(first, now, most)
        times, following = [moment(time) for time in self.owed.times], self.recurs.next_after(moment(self.owed.at))
        if following <= now:
            later, following = self.recurs.due_by(following, now, most)
            times += later
        return times[-most:], following

    def goes_on(self, runs: int) -> bool:
        """Return whether it is due again after that many more runs."""
        return self.repeats_left is None or self.repeats_left > runs


_KINDS: dict[str, Any] = {
    "name": str,
    "cron": str | None,
    "every": int | float | None,
    "timezone": str | None,
    "catch_up": str | None,
}


def fields_of(entry: Entry, *, from_file: bool) -> dict[str, Any]:
    """Return the fields that decide when an entry recurs. Its arguments are in the payload."""
    return {
        "name": entry.name,
        "cron": entry.cron,
        "every": None if entry.every is None else seconds_of(entry.every),
        "timezone": entry.timezone or (settings.TIME_ZONE if entry.cron else None),
        "enabled": entry.enabled,
        "catch_up": entry.catch_up,
        "overlap": entry.overlap,
        "from_file": from_file,
    }


def fingerprint(entry: Entry) -> bytes:
    """Return what two releases compare of an entry; of one that cannot work its name and times, as far as they go."""
    try:
        job = entry.job(moment(0))
        return orjson.dumps([fields_of(entry, from_file=True), job.queue, job.payload.hex()])
    except Exception:  # whatever the entry holds: it is reported, and left out
        return repr((entry.name, entry.cron, entry.every)).encode(errors="replace")


def entry_of(fields: dict[str, Any]) -> Entry:
    """
    Return the entry. Options that its release lacked get their defaults; options that this one lacks are ignored.
    TypeError for fields that `fields_of` does not write.
    """
    if not isinstance(fields, dict):
        raise TypeError(f"the definition of an entry is {type(fields).__name__}")
    for name, kind in _KINDS.items():
        if not isinstance(fields.get(name), kind):
            raise TypeError(f"{name}={fields.get(name)!r} in the definition of an entry")
    options = ("cron", "every", "timezone", "enabled", "catch_up", "overlap")
    recurs = {name: fields[name] for name in options if name in fields}
    return Entry(fields["name"], "", **recurs)


def of_fields(fields: dict[str, Any]) -> Definition:
    """Return the recurrence of an entry, with the times that it owes from before a change."""
    owed = fields.get("owed")
    return Definition(entry_of(fields), owed=Owed(**owed) if owed else None, next=fields.get("next"))


def for_rq(entry: Entry) -> dict[str, Any]:
    """Return the field that readers of rq-scheduler's jobs expect."""
    return {"cron_string": entry.cron} if entry.cron else {"interval": seconds_of(entry.every)}


Record = tuple[bytes | None, ...]  # the fields of an entry's record that decide when it recurs


def read_many(client: Redis, ids: Sequence[str]) -> dict[str, Record]:
    """Read the records that `definition` parses, in one round trip. A key of another type has an empty one."""
    with client.pipeline(transaction=False) as pipeline:
        for entry_id in ids:
            pipeline.hmget(keys.job(entry_id), "entry", "meta", "runs_written")
        answers = pipeline.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, Exception) and "WRONGTYPE" not in str(answer):
            raise answer
    found = zip(ids, answers, strict=True)
    return {entry_id: tuple(answer) if isinstance(answer, list) else (None,) * 3 for entry_id, answer in found}


def definition(entry_id: str, record: Record) -> Definition:
    """
    Parse a record into the recurrence of its entry or job.

    Raises ValueError, KeyError or TypeError for a record that neither we nor rq-scheduler wrote.
    """
    entry, meta, written = record
    if entry:
        return of_fields(orjson.loads(entry))
    fields = orjson.loads(meta) if meta else {}
    repeat = fields.get("repeat")
    left = None if repeat is None else int(repeat) - int(written or 0)
    if cron := fields.get("cron_string"):
        plain = plain_recurrence(cron, bool(fields.get("use_local_timezone")))
    elif interval := fields.get("interval"):
        plain = Entry(entry_id, "", every=float(interval))
    else:
        return Definition(None)
    named = Entry(entry_id, "", cron=plain.cron, every=plain.every, timezone=plain.timezone)
    return Definition(named, left)


def plain_recurrence(cron: str, local: bool) -> Entry:
    """Return when one of rq-scheduler's cron jobs recurs, in the project's zone (`local`) or in UTC."""
    return Entry("", "", cron=cron, timezone=settings.TIME_ZONE if local else "UTC")


def missed_line(at: datetime) -> str:
    """Return a line of history: runs were missed from this time on."""
    return orjson.dumps({"what": "missed", "id": "", "at": at.timestamp()}).decode()
