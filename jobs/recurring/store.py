"""
Recurring entries as they lie in Redis, and what may be done with them at run time.

An entry has the record of a job, under the id `entry-<slug>`: its payload, queue and options are what each of its runs
is a copy of, and rq-scheduler and django-rq show it as one of their jobs. Its field `entry` says when it recurs.
"""

import os
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
from jobs.broker.times import as_text, iso, moment
from jobs.errors import ScheduleError
from jobs.job import MandateJob
from jobs.recurring import runs
from jobs.recurring.entry import Entry, listed
from jobs.recurring.runs import Run
from jobs.recurring.serialization import dump, entry_of, for_rq
from jobs.retries import seconds_of

SCHEDULED = keys.SCHEDULED_BY_RQ_SCHEDULER
LOCK = StockScheduler.scheduler_lock_key
RUNS_KEPT = 100  # of each entry's history


class StoredEntry:
    """An entry as it is now, for pages and people."""

    def __init__(self, client: Redis, entry_id: str, record: dict[bytes, bytes], score: float | None) -> None:
        self._client, self.id = client, entry_id
        known = orjson.loads(record[b"entry"])
        self.entry = entry_of(known)
        self.name = self.entry.name
        self.from_file: bool = known["from_file"]
        self.paused = b"paused" in record
        self.next_at = None if score is None else moment(score)
        self.queue = as_text(record[b"origin"])
        self._data = record[b"data"]

    @property
    def description(self) -> str:
        """What it runs, as a person reads it: `users.CleanUpSessions()`."""
        job = MandateJob.handle(self.id, queue=self.queue, payload=self._data, connection=self._client)
        return job.description or ""

    def runs(self, most: int = RUNS_KEPT) -> list[Run]:
        """Its history, the newest first."""
        return histories([self], most)[self.id]


# --- at run time -----------------------------------------------------------------------------


def add(entry: Entry) -> StoredEntry:
    """
    Add an entry, or change the one of that name. It stays until `remove`, whatever the project's list says.

    Raises ScheduleError for one that cannot work, or whose name is the list's.
    """
    entry.check()
    if any(each.slug == entry.slug for each in listed()):
        raise ScheduleError(f'The entry {entry.name!r} is in JOBS["SCHEDULE"]. Change it there.')
    client = get_connection(entry.queue_name)
    _write(client, entry, from_file=False)
    return get(entry.name)


def remove(name: str) -> None:
    """Remove an entry that was added at run time; its runs stay. ScheduleError for another."""
    found = get(name)
    if found.from_file:
        raise ScheduleError(f'The entry {name!r} is in JOBS["SCHEDULE"]. Remove it there.')
    _remove(found._client, found.id)


def pause(name: str) -> None:
    """Let an entry rest until `resume`, restarts included. Its times pass. ScheduleError for an unknown name."""
    found = get(name)
    with found._client.pipeline() as pipeline:
        pipeline.hset(keys.job(found.id), "paused", "1")
        pipeline.zrem(SCHEDULED, found.id)
        pipeline.execute()


def resume(name: str) -> None:
    """Let a paused entry go on with its next time. ScheduleError for an unknown name."""
    found = get(name)
    with found._client.pipeline() as pipeline:
        pipeline.hdel(keys.job(found.id), "paused")
        if found.entry.enabled and found.paused:
            pipeline.zadd(SCHEDULED, {found.id: _next_score(found.entry)})
        pipeline.execute()


def run_now(name: str) -> str:
    """Run an entry now, beside its times. Returns the job's id. ScheduleError for an unknown name."""
    found = get(name)
    return push_run(found._client, found.id)


def entries() -> list[StoredEntry]:
    """All entries, by name."""
    return sorted(_read(_ids()), key=lambda each: each.name)


def page(after: str = "", size: int = 50) -> tuple[list[StoredEntry], str]:
    """Some entries, in the order of their ids, after one of those; and the id to go on from, nothing at the end."""
    ids = [pair for pair in _ids() if pair[0] > after]
    return _read(ids[:size]), ids[size - 1][0] if len(ids) > size else ""


def upcoming(most: int = 5) -> tuple[list[StoredEntry], bool]:
    """
    The entries that are due next, rq-scheduler's own jobs left out; and whether some process has the turn to push runs,
    on each server where there are any to push. Two round trips a server.
    """
    answers: list[tuple[Redis, list[bytes], int]] = []
    for client in servers():
        with client.pipeline(transaction=False) as pipeline:
            pipeline.zrange(SCHEDULED, 0, most + 14)
            pipeline.exists(LOCK)
            answers.append((client, *pipeline.execute()))
    due = [(as_text(entry_id), client) for client, ids, _ in answers for entry_id in ids]
    found = sorted(_read(due), key=lambda each: each.next_at or datetime.max.replace(tzinfo=UTC))
    return found[:most], all(held or not ids for _, ids, held in answers)


def _ids() -> list[tuple[str, Redis]]:
    return sorted(
        ((as_text(entry_id), client) for client in servers() for entry_id in client.smembers(keys.ENTRIES)),
        key=lambda pair: pair[0],
    )


def _read(ids: Sequence[tuple[str, Redis]]) -> list[StoredEntry]:
    """Those of these that are there, in their order; one round trip a server."""
    answers: dict[str, tuple[Any, Any]] = {}
    for client in {id(client): client for _, client in ids}.values():
        of_client = [entry_id for entry_id, each in ids if each is client]
        with client.pipeline(transaction=False) as pipeline:
            for entry_id in of_client:
                pipeline.hgetall(keys.job(entry_id))
                pipeline.zscore(SCHEDULED, entry_id)
            found = pipeline.execute()
        answers |= dict(zip(of_client, zip(found[::2], found[1::2], strict=True), strict=True))
    return [entry for each, client in ids if (entry := _entry(client, each, *answers[each]))]


def _entry(client: Redis, entry_id: str, record: dict[bytes, bytes], score: float | None) -> StoredEntry | None:
    try:
        return StoredEntry(client, entry_id, record, score)
    except (ValueError, LookupError, TypeError):  # removed meanwhile, or tampered with: the scheduler's log tells
        return None


def histories(of: Iterable[StoredEntry], most: int = RUNS_KEPT) -> dict[str, list[Run]]:
    """The histories of these entries by id, each the newest first; one round trip a server."""
    return runs.histories([(entry._client, entry.id) for entry in of], most)


def lag() -> float:
    """How many seconds ago the most overdue entry should have run; 0 when none is overdue."""
    firsts: list[Any] = [client.zrange(SCHEDULED, 0, 0, withscores=True) for client in servers()]
    return max((runtime.now() - score for first in firsts for _, score in first if score < runtime.now()), default=0.0)


def get(name: str) -> StoredEntry:
    """The entry of that name. ScheduleError when there is none."""
    for client in servers():
        for found in _read([(_id(Entry(name, "")), client)]):
            if found.name == name:  # two names may have one id
                return found
    raise ScheduleError(f"There is no recurring entry {name!r}.")


def sync(listed: Iterable[Entry], *, only: Redis | None = None) -> list[str]:
    """
    Make what is stored that of the project's list: add, change and remove. An entry that has not changed keeps its next
    time, a paused one stays so. Returns what was wrong, a sentence an entry: one that cannot work is left out. Raises
    redis-py's errors alone, whatever stands in the list.

    `only`: entries of that server alone.
    """
    wrong: list[str] = []
    wanted: dict[str, Entry] = {}
    for entry in listed:
        try:
            entry.check()
            client = get_connection(entry.queue_name)
            if only is None or client is only:
                wanted[_id(entry)] = entry
                _write(client, entry, from_file=True)
        except ScheduleError as error:
            wrong.append(str(error))
        except RedisError:
            raise
        except Exception as error:  # it must not keep the others from being scheduled
            wrong.append(f"The entry {entry.name!r} cannot be written. {type(error).__qualname__}: {error}.")
    for found in entries():
        if found.from_file and found.id not in wanted and (only is None or found._client is only):
            _remove(found._client, found.id)
    return wrong


# --- how it lies there -----------------------------------------------------------------------


def push_run(client: Redis, entry_id: str) -> str:
    """Write a run of an entry, or of one of rq-scheduler's jobs, now. Returns its id."""
    now = runtime.now()
    run_id = f"{entry_id.removeprefix('entry-')}-now-{int(now * 1_000)}-{os.urandom(3).hex()}"  # two may ask at once
    record: Any = client.hgetall(keys.job(entry_id))
    if not record:
        raise ScheduleError(f"There is no recurring entry {entry_id!r}.")
    fields = {as_text(name): value for name, value in record.items()}
    kept: dict[Any, Any] = {name: value for name, value in fields.items() if name not in _OWN}
    if expires_in := fields.get("expires_in"):
        kept["expires_at"] = repr(now + float(expires_in))
    kept |= {"status": "queued", "created_at": iso(now), "enqueued_at": iso(now), "schedule": entry_id, "more": 1}
    queue = as_text(fields["origin"])
    with client.pipeline() as pipeline:
        pipeline.hset(keys.job(run_id), mapping=kept)
        pipeline.sadd(keys.QUEUES, keys.queue(queue))
        pipeline.rpush(keys.queue(queue), run_id)
        pipeline.lpush(keys.runs(entry_id), orjson.dumps({"what": "run", "id": run_id, "at": now}))
        pipeline.execute()
    return run_id


# What is an entry's own, and no run's: as in occur.lua.
_OWN = {"entry", "paused", "last_run", "runs_written", "created_at", "enqueued_at", "status", "expires_in"}


def _write(client: Redis, entry: Entry, *, from_file: bool) -> None:
    entry_id, key = _id(entry), keys.job(_id(entry))
    new = entry.job(datetime.now(UTC))
    definition = dump(entry, from_file=from_file)
    record: dict[Any, Any] = {"entry": definition, "data": new.payload, "origin": new.queue, "status": "scheduled"}
    record |= {"created_at": iso(runtime.now()), "meta": orjson.dumps(for_rq(entry))}
    record |= dict(zip(map(str, new.fields[::2]), new.fields[1::2], strict=True))
    if record.pop("expires_at", None):  # each run expires by its own time
        record["expires_in"] = seconds_of(entry.command_class.expires_in)

    def write(pipeline: Any) -> None:
        before, paused = pipeline.hmget(key, "entry", "paused")
        pipeline.multi()
        pipeline.sadd(keys.ENTRIES, entry_id)
        pipeline.hset(key, mapping=record)
        if not entry.enabled:
            pipeline.zrem(SCHEDULED, entry_id)
        elif not paused:
            changed = before != definition
            pipeline.zadd(SCHEDULED, {entry_id: _next_score(entry)}, nx=not changed)

    client.transaction(write, key)  # once more, if somebody pauses it or it runs meanwhile


def _remove(client: Redis, entry_id: str) -> None:
    with client.pipeline() as pipeline:
        pipeline.zrem(SCHEDULED, entry_id)
        pipeline.srem(keys.ENTRIES, entry_id)
        pipeline.delete(keys.job(entry_id), keys.runs(entry_id), keys.runs_ended(entry_id))
        pipeline.execute()


def _next_score(entry: Entry) -> float:
    return entry.next_after(datetime.fromtimestamp(runtime.now(), UTC)).timestamp()


def _id(entry: Entry) -> str:
    return f"entry-{entry.slug}"
