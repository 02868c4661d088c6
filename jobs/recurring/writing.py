"""
Writes recurring entries: a change of one keeps all that it does not name.

An entry that leaves the schedule, paused, disabled or removed, keeps its next time in its definition.
"""

import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from redis import Redis

from jobs import runtime
from jobs.broker import keys
from jobs.broker.times import DAY, as_text, iso, moment
from jobs.recurring.entry import Entry
from jobs.recurring.serialization import Definition, Owed, fields_of, for_rq, missed_line, of_fields
from jobs.retries import seconds_of

SCHEDULED = keys.SCHEDULED_BY_RQ_SCHEDULER
KEPT_FOR = DAY  # seconds that the state and the history of a removed entry are kept
MOST_OWED = 100  # missed times that an entry keeps when its times are changed

_STATE = ("paused", "last_run", "runs_written")  # fields that no definition names


class SupersededError(Exception):
    """Raised when the stored entries follow another list than the one that is being written."""


def id_of(name: str) -> str:
    """Return the id of the entry of that name."""
    return f"entry-{Entry(name, '').slug}"


def _server_now(client: Any) -> float:
    seconds, microseconds = client.time()
    return float(seconds + microseconds / 1e6)


def write(client: Redis, entry: Entry, *, from_file: bool, list_id: str = "") -> None:
    """
    Add an entry, or change the one of its name; it keeps its state, and its next time unless its times have changed.
    One that was removed within a day comes back with its state. SupersededError if `list_id` is not followed any more.
    """
    entry_id = id_of(entry.name)
    key, removed = keys.job(entry_id), keys.removed(entry_id)
    new = entry.job(datetime.now(UTC))
    record: dict[Any, Any] = {"data": new.payload, "origin": new.queue, "status": "scheduled"}
    record |= {"created_at": iso(runtime.now()), "meta": orjson.dumps(for_rq(entry))}
    record |= dict(zip(map(str, new.fields[::2]), new.fields[1::2], strict=True))
    if new.expires_in is not None:  # each run expires by its own time
        record["expires_in"] = new.expires_in

    def change(pipeline: Any) -> None:
        _check_list(pipeline, list_id)
        before = pipeline.hgetall(key)
        state = before or pipeline.hgetall(removed)
        score, now = pipeline.zscore(SCHEDULED, entry_id), _server_now(pipeline)
        old = _definition(state)
        due = _next(entry, old, score, now)
        is_off = not entry.enabled or b"paused" in state
        fields = (
            fields_of(entry, from_file=from_file) | _owed(entry, old, score, now) | ({"next": due} if is_off else {})
        )
        pipeline.multi()
        pipeline.sadd(keys.ENTRIES, entry_id)
        pipeline.delete(key, removed)  # an option that the entry has lost must not stay
        pipeline.hset(key, mapping=record | {"entry": orjson.dumps(fields)} | _kept(state))
        pipeline.persist(keys.runs(entry_id))
        pipeline.persist(keys.runs_ended(entry_id))
        if is_off:
            _unschedule(pipeline, entry_id, score, now)
        elif due != score:
            pipeline.zadd(SCHEDULED, {entry_id: due})

    client.transaction(change, key, removed, keys.FOLLOWED)  # repeated if the entry is paused or runs meanwhile


def pause(client: Redis, entry_id: str) -> None:
    """Take an entry out of the schedule until `resume`."""
    key = keys.job(entry_id)

    def change(pipeline: Any) -> None:
        score, now = pipeline.zscore(SCHEDULED, entry_id), _server_now(pipeline)
        definition = _with_next(pipeline.hget(key, "entry"), score)
        pipeline.multi()
        pipeline.hset(key, mapping={"paused": "1", **definition})
        _unschedule(pipeline, entry_id, score, now)

    client.transaction(change, key)


def resume(client: Redis, entry_id: str, entry: Entry) -> None:
    """Put a paused entry back into the schedule, at the first of its times from now on."""
    key = keys.job(entry_id)

    def change(pipeline: Any) -> None:
        record = pipeline.hgetall(key)
        due = _next(entry, _definition(record), None, _server_now(pipeline))
        pipeline.multi()
        pipeline.hdel(key, "paused")
        if entry.enabled and b"paused" in record:
            pipeline.zadd(SCHEDULED, {entry_id: due})

    client.transaction(change, key)


def remove(client: Redis, entry_id: str, *, list_id: str = "", with_state: bool = False) -> None:
    """
    Remove an entry. Its history is kept for a day, and `with_state` whether it is paused, its last run and its next
    time. SupersededError if `list_id` is not followed any more.
    """
    key, removed = keys.job(entry_id), keys.removed(entry_id)

    def change(pipeline: Any) -> None:
        _check_list(pipeline, list_id)
        entry = pipeline.hget(key, "entry")
        definition = _with_next(entry, pipeline.zscore(SCHEDULED, entry_id))
        pipeline.multi()
        if entry is not None and with_state:
            if definition:
                pipeline.hset(key, mapping=definition)
            pipeline.rename(key, removed)
            pipeline.expire(removed, KEPT_FOR)
        pipeline.delete(key)
        pipeline.zrem(SCHEDULED, entry_id)
        pipeline.srem(keys.ENTRIES, entry_id)
        pipeline.expire(keys.runs(entry_id), KEPT_FOR)
        pipeline.expire(keys.runs_ended(entry_id), KEPT_FOR)

    client.transaction(change, key, keys.FOLLOWED)


def adopt(client: Redis, entry_id: str, name: str) -> None:
    """
    Give an entry that an earlier release stored under another id the id of its name, with its state and its history. If
    that exists, it stays, and the other one is dropped.
    """
    new_id = id_of(name)
    key, new = keys.job(entry_id), keys.job(new_id)

    def change(pipeline: Any) -> None:
        is_taken, score = pipeline.exists(new), pipeline.zscore(SCHEDULED, entry_id)
        histories = [(keys.runs(entry_id), keys.runs(new_id)), (keys.runs_ended(entry_id), keys.runs_ended(new_id))]
        moving = [(old, to) for old, to in histories if pipeline.exists(old) and not is_taken]
        if not pipeline.exists(key):
            return
        pipeline.multi()
        pipeline.zrem(SCHEDULED, entry_id)
        pipeline.srem(keys.ENTRIES, entry_id)
        if is_taken:
            pipeline.delete(key, keys.runs(entry_id), keys.runs_ended(entry_id))
            return
        pipeline.rename(key, new)
        pipeline.sadd(keys.ENTRIES, new_id)
        for old, to in moving:
            pipeline.rename(old, to)
        if score is not None:
            pipeline.zadd(SCHEDULED, {new_id: score})

    client.transaction(change, key, new)


def mark_written(client: Redis, list_id: str) -> None:
    """Note that all entries of the list are written. SupersededError if it is not followed any more."""

    def change(pipeline: Any) -> None:
        _check_list(pipeline, list_id)
        pipeline.multi()
        pipeline.hset(keys.FOLLOWED, "written", "1")

    client.transaction(change, keys.FOLLOWED)


def _check_list(pipeline: Any, list_id: str) -> None:
    if list_id and as_text(pipeline.hget(keys.FOLLOWED, "list") or "") != list_id:
        raise SupersededError


def _unschedule(pipeline: Any, entry_id: str, score: float | None, now: float) -> None:
    if score is not None:
        pipeline.zrem(SCHEDULED, entry_id)
    if score is not None and score <= now:  # its run is not made any more
        pipeline.lpush(keys.runs(entry_id), missed_line(moment(score)))


def _with_next(entry: bytes | None, score: float | None) -> dict[str, bytes]:
    """Return the field of this definition with the time at which the entry would be due; nothing if there is none."""
    with contextlib.suppress(ValueError, TypeError):  # somebody has tampered with it
        if entry is not None and score is not None:
            return {"entry": orjson.dumps(orjson.loads(entry) | {"next": score})}
    return {}


def _kept(state: dict[bytes, bytes]) -> dict[str, bytes]:
    return {name: state[name.encode()] for name in _STATE if name.encode() in state}


def _definition(record: dict[bytes, bytes]) -> Definition | None:
    with contextlib.suppress(Exception):  # there is none, or one that this release cannot read
        found = of_fields(orjson.loads(record[b"entry"]))
        return found if found.recurs is not None and _times(found.recurs) else None
    return None


# --- the next time of an entry that is changed ---------------------------------------------------


def _next(entry: Entry, old: Definition | None, score: float | None, now: float) -> float:
    """
    Return when the entry is due. `old`: what it was before; `score`: when it was due, None if it was not.

    A time that has been missed stays due, and is made up for as the entry says.
    """
    if score is not None and score <= now:
        return score
    time = old.next if old is not None and score is None else score
    if old is None or old.recurs is None or time is None:
        return entry.next_after(moment(now)).timestamp()
    before = old.recurs
    if _times(entry) == _times(before):
        return _from(entry, time, now)
    if entry.every is not None and before.every is not None:  # from its last time, or daily changes would keep it back
        step = timedelta(seconds=seconds_of(entry.every)) - timedelta(seconds=seconds_of(before.every))
        return _from(entry, time + step.total_seconds(), now)
    return entry.next_after(moment(now)).timestamp()


def _from(entry: Entry, time: float, now: float) -> float:
    """Return that time of the entry, or the first of those that follow it from now on."""
    return time if time > now else entry.due_by(moment(time), moment(now), 1)[1].timestamp()


def _owed(entry: Entry, old: Definition | None, score: float | None, now: float) -> dict[str, Any]:
    """Return the field of the times that an overdue entry has missed by its old definition; see `Owed`."""
    if old is None or old.recurs is None or score is None or score > now:
        return {}
    if _times(entry) == _times(old.recurs):
        return {"owed": old.owed} if old.owed else {}
    first = moment(score)
    times = [each.timestamp() for each in old.due_by(first, moment(now), MOST_OWED)[0]]
    return {"owed": Owed(first.timestamp(), times, now)}


def _times(entry: Entry) -> tuple[Any, ...]:
    """Return what of an entry decides its times."""
    if entry.every is not None:
        return (seconds_of(entry.every),)
    return entry.cron, entry.zone.key
