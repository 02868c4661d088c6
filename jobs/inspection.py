"""
Jobs as a person looks for them: one lazy query over jobs in any state, read a page at a time.

Nothing reads a whole queue or registry. A page costs a few round trips, whatever there is; a search looks at so many
jobs and says how far it came. A job that vanishes meanwhile is left out; one that cannot be read is a row that says so.
"""

import heapq
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

import orjson
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from redis import Redis
from rq.defaults import RQ_KEY_PREFIX
from rq.utils import as_text

from jobs import conf, queues
from jobs.connections import get_connection, servers
from jobs.job import JobState, MandateJob
from jobs.rows import Row
from jobs.sources import CHUNK, Found, Source, read, sizes, tally

SEARCHED = 2_000  # jobs that one page of a search looks at, and its count
# Records that are read to tell states apart that share a registry: 10,000 held Redis up for 28 ms.
COUNTED = 2_000

# Where jobs of a state are, and what else must be so of a job that is there.
_PLACES: dict[JobState, str] = {
    JobState.QUEUED: "queue",
    JobState.RUNNING: "wip",
    JobState.SCHEDULED: "scheduled",
    JobState.RETRYING: "scheduled",
    JobState.WAITING: "deferred",
    JobState.BLOCKED: "deferred",
    JobState.FINISHED: "finished",
    JobState.DEAD: "failed",
    JobState.DISCARDED: "canceled",
    JobState.CANCELLED: "canceled",
}
_SHARED = {JobState.SCHEDULED, JobState.RETRYING, JobState.WAITING, JobState.BLOCKED}
_SHARED |= {JobState.DISCARDED, JobState.CANCELLED}


@dataclass(frozen=True, slots=True)
class Count:
    """How many there are; `more` when that is only how far was counted."""

    value: int
    more: bool = False

    def __str__(self) -> str:
        return f"{self.value:,}{'+' if self.more else ''}"


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, and where to go on. `looked_at`: how many jobs were looked at to find them."""

    rows: list[Row]
    next_cursor: str
    looked_at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class JobQuery:
    """
    Jobs in one state: `JobQuery(state=JobState.DEAD, queue="mailers", error="SMTPException").page()`.

    `queue`, `command` (its name), `error` (the class's name), `text` (in arguments, reason or id) and a time range
    (aware datetimes, of what the list is sorted by) narrow it down. Queued jobs come in the order in which they will be
    taken, others by time; `newest_first` turns that round.
    """

    state: JobState
    queue: str | None = None
    command: str = ""
    error: str = ""
    text: str = ""
    since: datetime | None = None
    until: datetime | None = None
    newest_first: bool = False

    @classmethod
    def of(cls, state: str, filters: Mapping[str, Any]) -> "JobQuery":
        """
        A query from texts, as a page's address has them: `queue`, `command`, `error`, `text`, `since`, `until` (ISO; in
        the current time zone, if they have none) and `order` (newest or oldest).

        Raises ValueError for a state or queue that there is not. A time that is none does not matter.
        """
        wanted = JobState(state)
        in_turn = wanted in (JobState.QUEUED, JobState.SCHEDULED)
        return cls(
            state=wanted,
            queue=queues.check(filters["queue"]) if filters.get("queue") else None,
            command=filters.get("command", "").strip(),
            error=filters.get("error", "").strip(),
            text=filters.get("text", "").strip(),
            since=_time(filters.get("since", "")),
            until=_time(filters.get("until", "")),
            newest_first=filters.get("order", "oldest" if in_turn else "newest") == "newest",
        )

    @property
    def is_search(self) -> bool:
        """Whether jobs have to be looked at to know which are meant."""
        return bool(self.command or self.error or self.text or self.since or self.until)

    def count(self) -> Count:
        """How many there are; exact where that needs no look at the jobs themselves, a search as far as SEARCHED."""
        sources = self._sources()
        total = sum(sizes(sources).values())
        if not self.is_search:
            return _count([self.state], sources, total)[self.state]
        found = looked_at = 0
        for rows in self._chunks({}, SEARCHED):
            looked_at += len(rows)
            found += sum(map(self._fits, (row for _, row in rows if row)))
        return Count(found, more=looked_at < total)

    def page(self, cursor: str = "", size: int = 25) -> Page:
        """The rows after a cursor: of the first page, or as the last one gave it. ValueError for what is no cursor."""
        offsets = _read_cursor(cursor)
        rows: list[Row] = []
        looked_at = 0
        for chunk in self._chunks(offsets, SEARCHED if self.is_search else CHUNK):
            for source, row in chunk:
                looked_at += 1
                offsets[source] = offsets.get(source, 0) + 1
                if row is not None and self._fits(row):
                    rows.append(row)
                    if len(rows) == size:
                        return Page(rows, _cursor(offsets), looked_at)
        ended = looked_at < (SEARCHED if self.is_search else CHUNK)
        return Page(rows, "" if ended else _cursor(offsets), looked_at)

    def all(self, most: int = 100_000) -> Iterator[Row]:
        """Every row, for a bulk action; the list may change meanwhile, so a job may come twice or be missed."""
        for chunk in self._chunks({}, most):
            yield from (row for _, row in chunk if row is not None and self._fits(row))

    # --- where they are --------------------------------------------------------------------------

    def _sources(self) -> list["Source"]:
        names = [queues.check(self.queue)] if self.queue else list(conf.queues())
        return [Source(get_connection(name), _PLACES[self.state], name) for name in names]

    def _chunks(self, offsets: dict[str, int], most: int) -> Iterator[list[tuple[str, Row | None]]]:
        """Jobs in their order from these offsets on, with the source of each, CHUNK at a time."""
        sources = self._sources()
        ids = [source.ids(offsets.get(source.queue, 0), newest_first=self.newest_first) for source in sources]
        if _PLACES[self.state] == "queue":
            merged: Iterator[Found] = (found for each in ids for found in each)  # queues in priority order
        else:
            merged = heapq.merge(*ids, key=lambda found: found.score, reverse=self.newest_first)
        merged = islice(merged, most)
        while found := list(islice(merged, CHUNK)):
            yield list(zip([each.source.queue for each in found], read(found), strict=True))

    def _fits(self, row: Row) -> bool:
        if row.state is not self.state and (self.state, row.state) != (JobState.WAITING, JobState.BLOCKED):
            return False  # who waits may be blocked, too
        if self.command and self.command != row.command:
            return False
        if self.error and self.error != row.error:
            return False
        if self.text and self.text.lower() not in row.searchable.lower():
            return False
        at = row.at
        early = self.since is not None and (at is None or at < self.since)
        late = self.until is not None and (at is None or at > self.until)
        return not (early or late)


def _time(text: str) -> datetime | None:
    try:
        found = parse_datetime(text) if text else None
    except ValueError:
        return None
    return timezone.make_aware(found) if found and timezone.is_naive(found) else found


def _cursor(offsets: dict[str, int]) -> str:
    return urlsafe_b64encode(orjson.dumps(offsets)).decode().rstrip("=")


def _read_cursor(cursor: str) -> dict[str, int]:
    if not cursor:
        return {}
    try:
        known = orjson.loads(b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        if not isinstance(known, dict) or not all(type(offset) is int and offset >= 0 for offset in known.values()):
            raise ValueError
    except ValueError:
        raise ValueError(f"No cursor of a list of jobs: {cursor[:50]!r}.") from None
    return known


def find(job_id: str) -> MandateJob | None:
    """The job of that id, on whichever server."""
    for client in servers():
        found: Any = client.hmget(f"{RQ_KEY_PREFIX}:job:{job_id}", "origin", "data")
        if found[0] is not None:
            return _loaded(client, job_id, *found)
    return None


def _loaded(client: Redis, job_id: str, queue: bytes, data: bytes | None) -> MandateJob:
    job = MandateJob(job_id, connection=client)
    try:
        job.restore({b"data": data or b"", b"origin": queue})
    except Exception:  # it is shown as far as it can be
        job.origin = as_text(queue)
    return job


def counts() -> dict[JobState, Count]:
    """How many jobs are in each state, exact or as far as COUNTED; four round trips a server."""
    names = list(conf.queues())
    found: dict[JobState, Count] = {}
    places = {place: [Source(get_connection(name), place, name) for name in names] for place in _PLACES.values()}
    total = sizes([source for sources in places.values() for source in sources])
    for place, sources in places.items():
        states = [state for state, at in _PLACES.items() if at == place]
        found |= _count(states, sources, sum(total[source] for source in sources))
    return {state: found[state] for state in JobState}


def _count(states: Sequence[JobState], sources: Sequence[Source], total: int) -> dict[JobState, Count]:
    if not total or states[0] not in _SHARED:
        return dict.fromkeys(states, Count(total))
    looked_at, tallied = tally(sources, COUNTED)
    tallied[JobState.WAITING] += tallied[JobState.BLOCKED]  # who is blocked waits, too
    return {state: Count(tallied[state], more=looked_at < total) for state in states}
