"""
Recurring entries in Redis, and the operations on them at run time.

An entry has the record of a job, under the id `entry-<slug>`: each run copies its payload, queue and options, and
rq-scheduler and django-rq show it as one of their jobs. Its field `entry` defines when it recurs.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from redis import Redis
from redis.exceptions import RedisError
from rq_scheduler.scheduler import Scheduler as StockScheduler

from jobs import runtime
from jobs.broker import keys
from jobs.broker.connections import get_connection, servers
from jobs.broker.times import as_text, moment
from jobs.errors import ScheduleError
from jobs.job import MandateJob
from jobs.recurring import runs, writing
from jobs.recurring.entry import Entry, listed
from jobs.recurring.runs import RUNS_KEPT, Run
from jobs.recurring.serialization import entry_of, fields_of

SCHEDULED = keys.SCHEDULED_BY_RQ_SCHEDULER
LOCK = StockScheduler.scheduler_lock_key


class StoredEntry:
    """The current state of an entry."""

    def __init__(self, client: Redis, entry_id: str, record: dict[bytes, bytes], score: float | None) -> None:
        self._client, self.id = client, entry_id
        fields = orjson.loads(record[b"entry"])
        self.entry = entry_of(fields)
        self.name = self.entry.name
        self.from_file: bool = fields["from_file"]
        self.paused = b"paused" in record
        self.next_at = None if score is None else moment(score)
        self.queue = as_text(record[b"origin"])
        self._data = record[b"data"]

    def __repr__(self) -> str:
        times = f"cron={self.entry.cron!r}" if self.entry.cron else f"every={self.entry.every!r}"
        state = "paused" if self.paused else f"next_at={self.next_at and self.next_at.isoformat()}"
        return f"<StoredEntry {self.name!r}: {times}, {state}>"

    @property
    def job(self) -> MandateJob:
        """The job that its runs copy, for reading its call."""
        return MandateJob.handle(self.id, queue=self.queue, payload=self._data, connection=self._client)

    @property
    def description(self) -> str:
        """The call that it runs, in readable form: `users.CleanUpSessions()`."""
        return self.job.description or ""

    def runs(self, most: int = RUNS_KEPT) -> list[Run]:
        """Return its history, the newest first."""
        return histories([self], most)[self.id]


# --- at run time -----------------------------------------------------------------------------


def add(entry: Entry) -> StoredEntry:
    """
    Add an entry, or change the one of that name. It stays until `remove`; the project's list does not affect it.

    Raises ScheduleError for an invalid entry, or a name that the list contains.
    """
    entry.check()
    if any(each.slug == entry.slug for each in listed()):
        raise ScheduleError(f'The entry {entry.name!r} is in JOBS["SCHEDULE"]. Change it there.')
    client = get_connection(entry.queue_name)
    for stored in _read([(_old_id(entry.name), client)]):
        _adopt(stored)
    writing.write(client, entry, from_file=False)
    return get(entry.name)


def remove(name: str) -> None:
    """
    Remove an entry that was added at run time. Its runs stay, and its history for a day. ScheduleError for any other
    entry.
    """
    stored = get(name)
    if stored.from_file:
        raise ScheduleError(f'The entry {name!r} is in JOBS["SCHEDULE"]. Remove it there.')
    writing.remove(stored._client, stored.id)


def pause(name: str) -> None:
    """Pause an entry until `resume`, across restarts. Its times pass. ScheduleError for an unknown name."""
    stored = get(name)
    writing.pause(stored._client, stored.id)


def resume(name: str) -> None:
    """Continue a paused entry at its next time. ScheduleError for an unknown name."""
    stored = get(name)
    writing.resume(stored._client, stored.id, stored.entry)


def run_now(name: str) -> str:
    """
    Run an entry now, in addition to its times. Returns the job's id.

    ScheduleError for an unknown name, and for an entry with `overlap=False` of which a run is queued or running.
    """
    stored = get(name)
    return runs.push_run(stored._client, stored.id)


def entries() -> list[StoredEntry]:
    """Return all entries, by name."""
    return sorted(_read(_ids()), key=lambda each: each.name)


def page(after: str = "", size: int = 50) -> tuple[list[StoredEntry], str]:
    """Return up to `size` entries with ids after `after`, by id; and the `after` of the next page, "" at the end."""
    ids = [pair for pair in _ids() if pair[0] > after]
    return _read(ids[:size]), ids[size - 1][0] if len(ids) > size else ""


def upcoming(most: int = 5) -> tuple[list[StoredEntry], bool]:
    """
    Return the entries that are due next, without rq-scheduler's own jobs; and whether a process holds the scheduler's
    lease on each server that has runs to push. Two round trips per server.
    """
    answers: list[tuple[Redis, list[bytes], int]] = []
    for client in servers():
        with client.pipeline(transaction=False) as pipeline:
            pipeline.zrange(SCHEDULED, 0, most + 14)
            pipeline.exists(LOCK)
            answers.append((client, *pipeline.execute()))
    due = [(as_text(entry_id), client) for client, ids, _ in answers for entry_id in ids]
    stored = sorted(_read(due), key=lambda each: each.next_at or datetime.max.replace(tzinfo=UTC))
    return stored[:most], all(held or not ids for _, ids, held in answers)


def _ids() -> list[tuple[str, Redis]]:
    return sorted(
        ((as_text(entry_id), client) for client in servers() for entry_id in client.smembers(keys.ENTRIES)),
        key=lambda pair: pair[0],
    )


def _read(ids: Sequence[tuple[str, Redis]]) -> list[StoredEntry]:
    """Return the entries of these ids that exist, in their order, in one round trip per server."""
    answers: dict[str, tuple[Any, Any]] = {}
    for client in {id(client): client for _, client in ids}.values():
        of_client = [entry_id for entry_id, each in ids if each is client]
        with client.pipeline(transaction=False) as pipeline:
            for entry_id in of_client:
                pipeline.hgetall(keys.job(entry_id))
                pipeline.zscore(SCHEDULED, entry_id)
            values = pipeline.execute()
        answers |= dict(zip(of_client, zip(values[::2], values[1::2], strict=True), strict=True))
    return [entry for each, client in ids if (entry := _entry(client, each, *answers[each]))]


def _entry(client: Redis, entry_id: str, record: dict[bytes, bytes], score: float | None) -> StoredEntry | None:
    try:
        return StoredEntry(client, entry_id, record, score)
    except (ValueError, LookupError, TypeError):  # removed meanwhile, or tampered with: the scheduler logs it
        return None


def histories(of: Iterable[StoredEntry], most: int = RUNS_KEPT) -> dict[str, list[Run]]:
    """Return the histories of these entries by id, each the newest first, in one round trip per server."""
    return runs.histories([(entry._client, entry.id) for entry in of], most)


def lag() -> float:
    """Return by how many seconds the most overdue entry is late; 0 if none is overdue."""
    firsts: list[Any] = [client.zrange(SCHEDULED, 0, 0, withscores=True) for client in servers()]
    return max((runtime.now() - score for first in firsts for _, score in first if score < runtime.now()), default=0.0)


def get(name: str) -> StoredEntry:
    """Return the entry of that name. ScheduleError for an unknown name."""
    for client in servers():
        for stored in _read([(writing.id_of(name), client), (_old_id(name), client)]):
            if stored.name == name:  # two names may have had one id
                return stored
    raise ScheduleError(f"There is no recurring entry {name!r}.")


def sync(listed: Iterable[Entry], *, only: Redis | None = None, list_id: str = "") -> list[str]:
    """
    Make the stored entries match the project's list: add, change and remove. A change keeps what it does not name; a
    paused entry stays paused, and invalid entries are left out. Returns the problems, one text per invalid entry.
    Raises only redis-py's errors, whatever the list holds.

    `only`: limits it to the entries of that server. `list_id`: ends as soon as they follow another list there.
    """
    problems: list[str] = []
    wanted: set[str] = set()
    for stored in entries():
        _adopt(stored)
    try:
        for entry in listed:
            try:
                entry.check()
                client = get_connection(entry.queue_name)
                if only is None or client is only:
                    wanted.add(writing.id_of(entry.name))
                    writing.write(client, entry, from_file=True, list_id=list_id)
            except ScheduleError as error:
                problems.append(str(error))
            except (RedisError, writing.SupersededError):
                raise
            except Exception as error:  # one entry must not keep the others from their schedule
                problems.append(f"The entry {entry.name!r} cannot be written. {type(error).__qualname__}: {error}.")
        for stored in entries():
            if stored.from_file and stored.id not in wanted and (only is None or stored._client is only):
                writing.remove(stored._client, stored.id, list_id=list_id, with_state=True)
        if only is not None and list_id:
            writing.mark_written(only, list_id)
    except writing.SupersededError:
        pass
    return problems


def is_same(stored: StoredEntry, entry: Entry) -> bool:
    """Return whether a stored entry is this one of the project's list."""
    job = entry.job(datetime.now(UTC))
    fields = [fields_of(each, from_file=True) for each in (stored.entry, entry)]
    return fields[0] == fields[1] and (stored.queue, stored._data) == (job.queue, job.payload)


def _adopt(stored: StoredEntry) -> None:
    if stored.id != writing.id_of(stored.name):
        writing.adopt(stored._client, stored.id, stored.name)


def _old_id(name: str) -> str:
    return f"entry-{Entry(name, '').slug_of_release_0_1}"
