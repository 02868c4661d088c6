"""When an entry recurs, as its record in Redis says it; and one of rq-scheduler's own jobs, likewise."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from django.conf import settings
from redis import Redis

from jobs.broker import keys
from jobs.recurring.entry import Entry
from jobs.retries import seconds_of


@dataclass(frozen=True, slots=True)
class Definition:
    """What the scheduler needs of an entry, or of one of rq-scheduler's own jobs."""

    recurs: Entry | None  # None: it is due once
    repeats_left: int | None = None  # of rq-scheduler's jobs; None: without end

    def run_id(self, at: datetime) -> str:
        """The id of its run at that time."""
        assert self.recurs is not None  # noqa: S101
        return self.recurs.run_id(at)

    def goes_on(self, runs: int) -> bool:
        """Whether it is due again after so many runs more."""
        return self.repeats_left is None or self.repeats_left > runs


def dump(entry: Entry, *, from_file: bool) -> bytes:
    """What decides when it recurs. Its arguments are in the payload."""
    known = {
        "name": entry.name,
        "cron": entry.cron,
        "every": None if entry.every is None else seconds_of(entry.every),
        "timezone": entry.timezone or (settings.TIME_ZONE if entry.cron else None),
        "enabled": entry.enabled,
        "catch_up": entry.catch_up,
        "overlap": entry.overlap,
        "from_file": from_file,
    }
    return orjson.dumps(known)


def entry_of(known: dict[str, Any]) -> Entry:
    """The entry, with the defaults of what its release did not know; what this one does not know is left out."""
    options = ("cron", "every", "timezone", "enabled", "catch_up", "overlap")
    recurs = {name: known[name] for name in options if name in known}
    return Entry(known["name"], "", **recurs)


def for_rq(entry: Entry) -> dict[str, Any]:
    """What rq-scheduler's readers look for."""
    return {"cron_string": entry.cron} if entry.cron else {"interval": seconds_of(entry.every)}


Record = tuple[bytes | None, ...]  # the fields of an entry's record that say when it recurs


def read_many(client: Redis, ids: Sequence[str]) -> dict[str, Record]:
    """What the records say, in one round trip, for `definition` to understand."""
    with client.pipeline(transaction=False) as pipeline:
        for entry_id in ids:
            pipeline.hmget(keys.job(entry_id), "entry", "meta", "runs_written")
        answers = pipeline.execute()
    return {entry_id: tuple(answer) for entry_id, answer in zip(ids, answers, strict=True)}


def definition(entry_id: str, record: Record) -> Definition:
    """
    When it recurs.

    Raises ValueError, KeyError or TypeError for a record that nobody of us has written.
    """
    entry, meta, written = record
    if entry:
        return Definition(entry_of(orjson.loads(entry)))
    known = orjson.loads(meta) if meta else {}
    repeat = known.get("repeat")
    left = None if repeat is None else int(repeat) - int(written or 0)
    if cron := known.get("cron_string"):
        plain = plain_recurrence(cron, bool(known.get("use_local_timezone")))
    elif interval := known.get("interval"):
        plain = Entry(entry_id, "", every=float(interval))
    else:
        return Definition(None)
    named = Entry(entry_id, "", cron=plain.cron, every=plain.every, timezone=plain.timezone)
    return Definition(named, left)


def plain_recurrence(cron: str, local: bool) -> Entry:
    """When one of rq-scheduler's own cron jobs recurs: in the project's zone, or in UTC."""
    return Entry("", "", cron=cron, timezone=settings.TIME_ZONE if local else "UTC")


def missed_line(at: datetime) -> str:
    """A line of history: from this time on, runs were missed."""
    return orjson.dumps({"what": "missed", "id": "", "at": at.timestamp()}).decode()
