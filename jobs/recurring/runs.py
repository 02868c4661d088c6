"""The runs of recurring entries: their histories, and runs by hand."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from redis import Redis

from jobs import runtime
from jobs.broker import keys
from jobs.broker.times import as_text, iso, moment
from jobs.errors import ScheduleError
from jobs.record import more
from jobs.recurring.serialization import entry_of

RUNS_KEPT = 100  # of each entry's history

_UNFINISHED = "unfinished"
_ACTIVE = (b"queued", b"started")  # RQ's statuses


@dataclass(frozen=True, slots=True)
class Run:
    """One line of an entry's history: the outcome at one of its times."""

    what: str  # run, skipped (another one was queued or running), missed (no scheduler ran)
    at: datetime
    job_id: str = ""  # of a skipped one: the run that was queued or running
    outcome: str = ""  # finished, dead, discarded, cancelled, deleted; unfinished until then


def histories(of: Sequence[tuple[Redis, str]], most: int) -> dict[str, list[Run]]:
    """Return the last `most` lines of these entries' histories, the newest first, in one round trip per server."""
    runs: dict[str, list[Run]] = {}
    for client in {id(client): client for client, _ in of}.values():
        ids = [entry_id for each, entry_id in of if each is client]
        with client.pipeline(transaction=False) as pipeline:
            for entry_id in ids:
                pipeline.lrange(keys.runs(entry_id), 0, most - 1)
                pipeline.hgetall(keys.runs_ended(entry_id))
            answers = pipeline.execute()
        for entry_id, lines, outcomes in zip(ids, answers[::2], answers[1::2], strict=True):
            runs[entry_id] = [run for line in lines if (run := _run(line, outcomes))]
    return runs


def active(client: Redis, entry_id: str, most: int) -> str | None:
    """Return the id of a run of this entry that is queued or running, by its history and `last_run`; None for none."""
    known = [run.job_id for run in histories([(client, entry_id)], most)[entry_id] if run.outcome == _UNFINISHED]
    if last := client.hget(keys.job(entry_id), "last_run"):
        known.insert(0, as_text(last))
    with client.pipeline(transaction=False) as pipeline:
        for job_id in known:
            pipeline.hget(keys.job(job_id), "status")
        states = pipeline.execute()
    return next((each for each, state in zip(known, states, strict=True) if state in _ACTIVE), None)


def _run(text: bytes, outcomes: dict[bytes, bytes]) -> Run | None:
    try:
        line = orjson.loads(text)
        what, at, run_id = str(line["what"]), moment(line["at"]), str(line["id"])
    except (ValueError, LookupError, TypeError):  # neither we nor the script wrote it
        return None
    return Run(what, at, run_id, as_text(outcomes.get(run_id.encode(), _UNFINISHED)) if what == "run" else "")


# --- by hand ---------------------------------------------------------------------------------


def push_run(client: Redis, entry_id: str) -> str:
    """
    Write a run of an entry, or of one of rq-scheduler's jobs, now. Returns its id. ScheduleError as `run_now`.
    """
    now = runtime.now()
    run_id = f"{entry_id.removeprefix('entry-')}-now-{int(now * 1_000)}-{os.urandom(3).hex()}"  # for two calls at once
    key, history = keys.job(entry_id), keys.runs(entry_id)

    def write(pipeline: Any) -> None:
        fields = {as_text(name): value for name, value in pipeline.hgetall(key).items()}
        if not fields:
            raise ScheduleError(f"There is no recurring entry {entry_id!r}.")
        _check_overlap(client, entry_id, fields)
        kept: dict[Any, Any] = {name: value for name, value in fields.items() if name not in _OWN}
        if expires_in := fields.get("expires_in"):
            kept["expires_at"] = repr(client.time()[0] + float(expires_in))
        kept |= {"status": "queued", "created_at": iso(now), "enqueued_at": iso(now), "schedule": entry_id}
        kept[more.FIELD] = more.with_letter(as_text(fields.get(more.FIELD, b"")), more.FEW)
        queue = as_text(fields["origin"])
        pipeline.multi()
        pipeline.hset(keys.job(run_id), mapping=kept)
        pipeline.sadd(keys.QUEUES, keys.queue(queue))
        pipeline.rpush(keys.queue(queue), run_id)
        pipeline.lpush(history, orjson.dumps({"what": "run", "id": run_id, "at": now}))
        pipeline.hset(key, "last_run", run_id)

    client.transaction(write, key, history)  # repeated if another run is written meanwhile
    return run_id


def _check_overlap(client: Redis, entry_id: str, fields: dict[str, bytes]) -> None:
    entry = entry_of(orjson.loads(fields["entry"])) if "entry" in fields else None
    if entry is None or entry.overlap:
        return
    if other := active(client, entry_id, RUNS_KEPT):
        raise ScheduleError(
            f"The entry {entry.name!r} has overlap=False, and its run {other} is queued or running. "
            "Wait until it has ended, or cancel it."
        )


# Fields that a run does not copy from its entry, as in occur.lua.
_OWN = {"entry", "paused", "last_run", "runs_written", "created_at", "enqueued_at", "status", "expires_in"}
