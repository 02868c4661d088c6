"""A job that is about to be written, and the words in which `push.lua` reads it."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import orjson

from jobs import runtime
from jobs.broker import keys
from jobs.broker.connections import Word
from jobs.broker.times import iso
from jobs.errors import PrerequisiteError
from jobs.record import more, payload
from jobs.record.prerequisites import BATCH_EVENT, NONE, Prerequisites


class Lock(NamedTuple):
    """The lock of a unique command: a key in Redis, held for so many seconds or until its job has ended."""

    key: str
    seconds: float


class Collapsing(NamedTuple):
    """
    How a push collapses: into the job that this key in Redis names, if that has not begun. `wait`, `at_most`: seconds
    from this push, and from the first one; `keep`: whose arguments the job has, "first" or "last".
    """

    key: str
    wait: float
    at_most: float
    keep: str


class NewJob(NamedTuple):
    """
    A job about to be written. `due` is None for now, else seconds since the epoch: an absolute time, or the end of a
    wait by this process's clock. The server counts what is left of a wait, and `expires_in`, by its own clock.
    """

    id: str
    queue: str
    payload: bytes
    due: float | None = None
    fields: tuple[Word, ...] = ()  # further fields of its record: names and values, alternating
    prerequisites: Prerequisites = NONE
    lock: Lock | None = None
    at_front: bool = False  # goes to the head of its queue when it becomes ready
    is_wait: bool = False  # whether `due` is the end of a wait
    expires_in: float | None = None  # seconds from when it is due, after which it may not begin
    durable: bool = False  # whether the outbox has it until Redis does
    collapse: Collapsing | None = None  # decides when it is due
    batch: str = ""  # the batch whose member it becomes; a callback of a child, once it is released
    share: str = ""  # the line of its share: it takes turns with others


_stored = payload.stored


def words(queue: str, jobs: Iterable[NewJob], now: float, many: Mapping[str, int]) -> list[Word]:
    """
    Return the arguments of `push.lua` for new jobs of a queue. `now`: seconds since the epoch; `many`: how many
    prerequisites of a job, by its id, are written by `announce`.
    """
    result: list[Word] = [keys.RQ, queue, iso(now)]
    for job in jobs:
        fields, links = job.fields, b""
        if (
            job.lock
            or job.prerequisites.jobs
            or job.at_front
            or job.expires_in is not None
            or job.durable
            or job.collapse
            or job.batch
            or job.share
        ):
            links, fields = _links(job, many)
        due = "" if job.due is None else _due(job, now)
        result += (job.id, due, _stored(job.payload), links, len(fields) // 2, *fields)
    return result


def _due(job: NewJob, now: float) -> str:
    """Return when a job is due, as `push.lua` reads it. The testing kit has one clock."""
    assert job.due is not None  # noqa: S101
    is_left = job.is_wait and runtime.stand_in is None
    return f"+{max(0.0, job.due - now)!r}" if is_left else repr(job.due)


def _links(job: NewJob, many: Mapping[str, int]) -> tuple[bytes, tuple[Word, ...]]:
    """Return the links that `push.lua` reads (prerequisites, place, lock, key), and the fields of the record."""
    links: dict[str, object] = {}
    fields = job.fields
    if ids := job.prerequisites.ids():
        if job.id in ids:
            raise PrerequisiteError(f"Job {job.id} cannot be a prerequisite of itself.")
        sure = job.prerequisites.unwritten()
        links |= {"waits": ids, "sure": sure, "any": job.prerequisites.any_end}
        if many.get(job.id):
            links |= {"waits": [*sure, *job.prerequisites.durable_ids()], "many": many[job.id]}
        if durable := job.prerequisites.durable_ids():
            links["durable_waits"] = durable
        fields = more.added((*fields, "prereqs", orjson.dumps(ids)), more.FEW)
    if job.durable:
        links["durable"] = True
    if job.batch:
        links["batch"] = job.batch
        if ids and ids[0].startswith(BATCH_EVENT):
            links["released"] = True
        fields = more.added((*fields, "batch", job.batch), more.FEW)
    if job.share:
        links["share"] = job.share
    if job.at_front:
        links["front"] = True
        fields += ("front", 1)  # for the promotion, if it is not ready yet
    if job.expires_in is not None:
        links["expires_in"] = job.expires_in
    if job.lock:
        milliseconds = max(1, int(job.lock.seconds * 1_000))
        links |= {"unique": job.lock.key, "unique_ms": milliseconds}
        fields += ("unique", job.lock.key, "unique_ms", milliseconds)
    if job.collapse:
        links["collapse"] = job.collapse._asdict()
        fields += ("collapse", job.collapse.key)
    return orjson.dumps(links), fields
