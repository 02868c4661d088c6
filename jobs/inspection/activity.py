"""
What people have changed: who, when, what, and which jobs. Kept in Redis, beside the jobs, and bounded.

A server's stream keeps MOST changes, of some 400 bytes each; each job that a person changed keeps the last PER_JOB.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import orjson
from redis import Redis
from redis.exceptions import RedisError

from jobs import conf, runtime
from jobs.broker import keys
from jobs.broker.connections import get_connection
from jobs.broker.times import DAY, moment, number_of, sendable
from jobs.safe_logging import safe_logger

logger = safe_logger("jobs")

MOST = 10_000  # changes
SAMPLE = 10  # ids of jobs that a change names
NAMED = 500  # jobs of one change that each keep it
PER_JOB = 20  # changes
KEPT_FOR = 30 * DAY  # seconds that a job keeps them
LONGEST = 1_000  # characters of a sentence
EPOCH = moment(0)
LOOKED_AT = 2_000  # changes that one page examines


@dataclass(frozen=True, slots=True)
class Change:
    """
    A change that a person made. `what`: retry, delete, pause and so on; `subject`: the job, queue, entry or worker;
    `state`, `filters`: which jobs of a list; `count`: how many; `ids`: some of them.
    """

    who: str
    what: str
    text: str
    subject: str = ""
    queue: str = ""
    state: str = ""
    filters: Mapping[str, str] = field(default_factory=dict)
    count: str = ""
    ids: Sequence[str] = ()
    at: datetime = EPOCH
    cursor: str = ""


def record(change: Change, job_ids: Sequence[str] = ()) -> None:
    """
    Keep a change, also with each of these jobs, if they are not too many. One round trip. A server that does not keep
    it is logged: the change is made.
    """
    stored = asdict(change) | {"at": runtime.now(), "ids": list(job_ids[:SAMPLE]), "text": change.text[:LONGEST]}
    del stored["cursor"]
    text = sendable(json.dumps(stored, ensure_ascii=False))
    try:
        with _client().pipeline(transaction=False) as pipeline:
            pipeline.xadd(keys.ACTIVITY, {"change": text}, maxlen=MOST, approximate=True)
            for job_id in job_ids if len(job_ids) <= NAMED else ():
                pipeline.lpush(keys.activity_of(job_id), text)
                pipeline.ltrim(keys.activity_of(job_id), 0, PER_JOB - 1)
                pipeline.expire(keys.activity_of(job_id), KEPT_FOR)
            pipeline.execute()
    except RedisError:
        logger.exception("the activity was not kept: %s", change.text)


def of_job(job_id: str) -> list[Change]:
    """Return the last changes of one job, the latest first. One round trip."""
    return [change for text in _client().lrange(keys.activity_of(job_id), 0, -1) if (change := _read(text))]


def page(size: int, cursor: str = "", **wanted: str) -> tuple[list[Change], str]:
    """
    Return changes, the latest first, and the cursor of the next page, "" on the last one. `wanted`: `who`, `what` and
    `queue` as they are, `text` in its sentence, its subject, its filters or an id. ValueError for an invalid cursor.
    """
    found: list[Change] = []
    for looked_at, change in enumerate(_from(cursor), 1):
        if _fits(change, wanted):
            found.append(change)
        if len(found) == size or looked_at == LOOKED_AT:
            return found, change.cursor
    return found, ""


def _from(cursor: str) -> Iterator[Change]:
    if cursor and not all(part.isdigit() and len(part) < 20 for part in cursor.split("-", 1)):
        raise ValueError(f"Invalid cursor of the activity: {cursor[:50]!r}.")
    client, last = _client(), _before(cursor) if cursor else "+"
    while True:
        entries: Any = client.xrevrange(keys.ACTIVITY, last, "-", count=200)
        for entry_id, fields in entries:
            change = _read(fields.get(b"change", b""), entry_id.decode())
            if change:
                yield change
        if len(entries) < 200:
            return
        last = _before(entries[-1][0].decode())


def _before(entry_id: str) -> str:
    """Return the id before one of a stream. Redis has `(`, which leaves an end out, from 6.2 on."""
    milliseconds, _, number = entry_id.partition("-")
    return f"{milliseconds}-{int(number) - 1}" if int(number or 0) else f"{max(0, int(milliseconds) - 1)}"


def _fits(change: Change, wanted: Mapping[str, str]) -> bool:
    for name in ("who", "what", "queue"):
        if wanted.get(name) and wanted[name] != getattr(change, name):
            return False
    text = wanted.get("text", "").lower()
    searched = " ".join((change.text, change.subject, *change.filters.values(), *change.ids)).lower()
    return text in searched


def _read(text: bytes | str, cursor: str = "") -> Change | None:
    try:
        stored = orjson.loads(text)
        texts = {
            name: str(stored.get(name, "")) for name in ("who", "what", "text", "subject", "queue", "state", "count")
        }
        filters = {str(name): str(value) for name, value in stored.get("filters", {}).items()}
        ids = tuple(map(str, stored.get("ids", ())))
        return Change(**texts, filters=filters, ids=ids, at=moment(number_of(stored.get("at"))), cursor=cursor)
    except (ValueError, AttributeError, TypeError):  # somebody has tampered with it
        return None


def _client() -> Redis:
    return get_connection(next(iter(conf.queues())))
