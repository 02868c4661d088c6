"""
Lists and searches jobs: one lazy query over the jobs in a state, read a page at a time.

Nothing reads a whole queue or registry. A page costs a few round trips, however many jobs there are. A search examines
a limited number of jobs and returns how many. A job that is deleted meanwhile is left out; an unreadable job is a row
that says so.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from redis import Redis

from jobs import conf, queues
from jobs.broker import keys
from jobs.broker.connections import get_connection, servers
from jobs.broker.times import as_text
from jobs.inspection import cursors, unsent
from jobs.inspection.matching import contains
from jobs.inspection.rows import Row
from jobs.inspection.search import Search, SearchError
from jobs.inspection.sources import Source, locate, read, sizes, take, tally
from jobs.job import JobState, MandateJob
from jobs.record import payload

CHUNK = 200  # jobs that are read at once
SEARCHED = 1_000  # jobs that one page of a search examines, and its count
SEARCHED_AT_ONCE = 1_000  # of those, so that a search takes few round trips
COUNTED = 1_000  # records that are read to count states that share a registry separately

# The list or registry of the jobs in each state. States in _SHARED share one with another state.
PLACES: dict[JobState, str] = {
    JobState.QUEUED: "queue",
    JobState.RUNNING: "wip",
    JobState.SCHEDULED: "scheduled",
    JobState.RETRYING: "scheduled",
    JobState.WAITING: "deferred",
    JobState.BLOCKED: "deferred",
    JobState.LIMITED: "deferred",
    JobState.FINISHED: "finished",
    JobState.DEAD: "failed",
    JobState.DISCARDED: "canceled",
    JobState.CANCELLED: "canceled",
}
_SHARED = {state for state, place in PLACES.items() if place in ("scheduled", "deferred", "canceled")}


@dataclass(frozen=True, slots=True)
class Count:
    """A number of jobs. `more`: the counting stopped there, so there may be more."""

    value: int
    more: bool = False

    def __str__(self) -> str:
        return f"{self.value:,}{'+' if self.more else ''}"


@dataclass(frozen=True, slots=True)
class Page:
    """
    Rows, and the cursor of the next page, "" on the last one. `looked_at`: jobs examined for this page; `matched`: the
    matching jobs among them, more than `rows` if some go to the next page; `passed`: jobs before the next page.
    """

    rows: list[Row]
    next_cursor: str
    looked_at: int
    matched: int
    passed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class JobQuery:
    """
    Jobs in one state: `JobQuery(state=JobState.DEAD, queue="mailers", error="SMTPException").page()`.

    Filters: `queue`, `command` (its name), `error` (the class's name), `text`, `texts` (in arguments, reason or id),
    `arguments` (fields and exact values), `fingerprint` (of the error), a time range (aware datetimes, of the time that
    the list is sorted by), and `job_id`, a whole id. Queued jobs come in the order in which workers take them, others
    by time; `newest_first` reverses the order.
    """

    state: JobState
    queue: str | None = None
    command: str = ""
    error: str = ""
    text: str = ""
    texts: tuple[str, ...] = ()
    arguments: tuple[tuple[str, str], ...] = ()
    fingerprint: str = ""
    job_id: str = ""
    since: datetime | None = None
    until: datetime | None = None
    newest_first: bool = False

    @classmethod
    def of(cls, state: str, filters: Mapping[str, Any]) -> "JobQuery":
        """
        Build a query from strings, as in a page's URL: `q`, a search (`jobs.inspection.search`), `queue`, `command`,
        `error`, `text`, `id`, `since`, `until` (times as in a search) and `order` (newest or oldest).

        Raises ValueError for an unknown state or queue, and SearchError for any filter that is not understood.
        """
        wanted, search = JobState(state), Search.of(filters)
        if search.states and wanted not in search.states:
            raise SearchError(f"The search is for {' or '.join(search.states)} jobs, and these are {wanted}.")
        in_turn = wanted in (JobState.QUEUED, JobState.SCHEDULED, JobState.UNSENT)
        return cls(
            state=wanted,
            queue=search.value("queue") or None,
            command=search.command,
            error=search.value("error"),
            texts=search.values("text"),
            arguments=search.arguments,
            fingerprint=search.value("fingerprint"),
            job_id=search.value("id"),
            since=search.at("since"),
            until=search.at("until"),
            newest_first=(search.value("order") or ("oldest" if in_turn else "newest")) == "newest",
        )

    @property
    def is_search(self) -> bool:
        """Whether jobs have to be read to know which ones match."""
        read = self.command or self.error or self.text or self.texts or self.arguments or self.fingerprint
        return bool(read or self.job_id or self.since or self.until)

    def count(self) -> Count:
        """Count the matching jobs: exactly if no job has to be read, otherwise among the first COUNTED or SEARCHED."""
        if not self.is_search:
            total = self.total()
            if not total or self.state not in _SHARED:
                return Count(total)
            ((looked_at, tallied),) = tally([self.sources()], COUNTED)
            return _counted([self.state], tallied, more=looked_at < total)[0]
        matched = looked_at = 0
        for rows in self._chunks({}, SEARCHED):
            looked_at += len(rows)
            matched += sum(map(self.fits, (row for _, row in rows if row)))
        return Count(matched, more=looked_at == SEARCHED < self.total())

    def total(self) -> int:
        """Count the jobs in the lists or registries of this state, in the queue or queues of the query."""
        if self.state is JobState.UNSENT:
            return unsent.count(self._queues())
        return sum(sizes(self.sources()).values())

    def page(self, cursor: str = "", size: int = 25) -> Page:
        """Return the page at a cursor: "" for the first, or `next_cursor` of a page. ValueError for an invalid one."""
        offsets = cursors.read(cursor)
        limit = SEARCHED if self.is_search else CHUNK
        at_once = size if not self.is_search and self.state not in _SHARED else 0  # nearly all of those match
        rows: list[Row] = []
        looked_at = matched = 0
        for chunk in self._chunks(offsets, limit, at_once):
            looked_at += len(chunk)
            for source, row in chunk:
                fits = row is not None and self.fits(row)
                matched += fits
                if len(rows) < size:
                    offsets[source] = offsets.get(source, 0) + 1
                    if row is not None and fits:
                        rows.append(row)
            if len(rows) == size:
                break
        ended = len(rows) < size and looked_at < limit
        return Page(rows, "" if ended else cursors.write(offsets), looked_at, matched, sum(offsets.values()))

    def all(self, most: int = 100_000) -> Iterator[Row]:
        """Yield the matching rows of the first `most` jobs. If the list changes, a job may come twice or be missed."""
        for chunk in self._chunks({}, most, SEARCHED_AT_ONCE):
            yield from (row for _, row in chunk if row is not None and self.fits(row))

    def chunk(self, offsets: Mapping[str, int]) -> list[tuple[str, Row | None]]:
        """
        Return the next CHUNK jobs after these offsets by queue, whether they match or not: the queue and the row of
        each, None if the job no longer exists.
        """
        return next(self._chunks(offsets, CHUNK), [])

    def fits(self, row: Row) -> bool:
        """Whether a job matches the query."""
        if row.state is not self.state and (self.state, row.state) != (JobState.WAITING, JobState.BLOCKED):
            return False  # a blocked job is a waiting one, too
        if self.command and self.command != row.command:
            return False
        if self.error and self.error != row.error:
            return False
        if self.job_id and self.job_id != row.id:
            return False
        if self.fingerprint and self.fingerprint != row.fingerprint:
            return False
        if not all(
            text.lower() in row.id.lower() or contains(row.searchable, text) for text in (self.text, *self.texts)
        ):
            return False
        if not all(row.has_argument(*argument) for argument in self.arguments):
            return False
        at = row.at
        early = self.since is not None and (at is None or at < self.since)
        late = self.until is not None and (at is None or at > self.until)
        return not (early or late)

    # --- where they are --------------------------------------------------------------------------

    def sources(self) -> list[Source]:
        """Return the lists or registries of this state, in the queue or queues of the query."""
        if self.state is JobState.UNSENT:
            return []
        return [Source(get_connection(name), PLACES[self.state], name) for name in self._queues()]

    def _queues(self) -> list[str]:
        return [queues.check(self.queue)] if self.queue else list(conf.queues())

    def _chunks(
        self, offsets: Mapping[str, int], most: int, at_once: int = 0
    ) -> Iterator[list[tuple[str, Row | None]]]:
        """Yield jobs in their order from these offsets on, with the queue of each."""
        if self.job_id:
            yield from () if offsets else self._named()
            return
        sources, passed = self.sources(), Counter(offsets)
        at_once = at_once or (SEARCHED_AT_ONCE if self.is_search else CHUNK)
        while most > 0:
            wanted = min(most, at_once)
            if self.state is JobState.UNSENT:
                rows = unsent.listed(self._queues(), passed.total(), wanted, newest_first=self.newest_first)
                passed.update(queue for queue, _ in rows)
                if rows:
                    yield rows
                most = most - wanted if len(rows) == wanted else 0
                continue
            taken = take(sources, passed, wanted, newest_first=self.newest_first)
            if taken:
                passed.update(each.source.queue for each in taken)
                yield list(zip([each.source.queue for each in taken], read(taken), strict=True))
            most = most - wanted if len(taken) == wanted else 0

    def _named(self) -> Iterator[list[tuple[str, Row | None]]]:
        """Yield the job of that id alone, read without a search."""
        if self.state is JobState.UNSENT:
            yield unsent.named(self._queues(), self.job_id)
            return
        job = find(self.job_id)
        for source in self.sources():
            if job is not None and source.queue == job.origin:
                (row,) = read([locate(source, job.id)])
                yield [(source.queue, row)]


def find(job_id: str) -> MandateJob | None:
    """Return the job of that id, from any of the servers, or from the outbox. None if there is no such job."""
    for client in servers():
        record: Any = client.hmget(keys.job(job_id), "origin", "data")
        if record[0] is not None:
            return _loaded(client, job_id, *record)
    return unsent.find(job_id)


def _loaded(client: Redis, job_id: str, queue: bytes, data: bytes | None) -> MandateJob:
    job, text = MandateJob(job_id, connection=client), payload.listed(data or b"", payload.SHOWN)
    try:
        job.restore({b"data": b"" if text is None else text, b"origin": queue})
    except Exception:  # an unreadable payload: the rest of the job is shown
        job.origin = as_text(queue)
    return job


def counts(queue: str | None = None) -> dict[JobState, Count]:
    """
    Count the jobs in each state, of one queue or all, exactly or among the first COUNTED. Two round trips a server.
    """
    names = [queues.check(queue)] if queue else list(conf.queues())
    places = {place: [Source(get_connection(name), place, name) for name in names] for place in PLACES.values()}
    total = sizes([source for sources in places.values() for source in sources])
    by_state = {
        state: Count(sum(total[source] for source in places[place]))
        for state, place in PLACES.items()
        if state not in _SHARED
    }
    shared = {
        place: sources
        for place, sources in places.items()
        if any(PLACES[state] == place for state in _SHARED) and any(total[source] for source in sources)
    }
    for place, (looked_at, tallied) in zip(shared, tally(list(shared.values()), COUNTED), strict=True):
        more = looked_at < sum(total[source] for source in shared[place])
        states = [state for state, at in PLACES.items() if at == place]
        by_state |= dict(zip(states, _counted(states, tallied, more=more), strict=True))
    by_state[JobState.UNSENT] = Count(unsent.count(names))
    return {state: by_state.get(state, Count(0)) for state in unsent.states()}


def _counted(states: Sequence[JobState], tallied: Counter[JobState], *, more: bool) -> list[Count]:
    tallied[JobState.WAITING] += tallied[JobState.BLOCKED]  # a blocked job is a waiting one, too
    return [Count(tallied[state], more=more) for state in states]
