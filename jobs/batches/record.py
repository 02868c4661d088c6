"""
The data of a batch in Redis, the script that writes it, and the block that is open in the calling context.

`jobs:batch:<id>` is its record; a set for each state holds the ids of the members in that state. The part `batch.lua`
moves a member in the same step that writes its end, so no count can go wrong: sizes of sets are the counts.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

import orjson
from redis import Redis

from jobs.broker import keys
from jobs.broker.connections import Script, Word, reaching, run_script
from jobs.broker.times import DAY, as_text, number_of
from jobs.errors import BatchEndedError, BatchNotFoundError
from jobs.record import more
from jobs.record.new_jobs import NewJob
from jobs.record.prerequisites import Prerequisites

CREATOR = "creator"  # holds a new batch open until all of its jobs are written
AGAIN = "again"  # holds a flow open until the steps that are to run again have been enqueued
DEEPEST = 10  # batches in one another
RESULTS_KEPT = 365 * DAY  # seconds that the results of steps are kept; the sweep changes that once the flow has ended
READ_AT_ONCE = 200  # members that a round trip asks for
SUCCESS, COMPLETE, DEAD = EVENTS = ("success", "complete", "dead")
CHILD = "batch:"  # begins the member that stands for a child

_BATCH = Script("batch.lua")


class MemberState(StrEnum):
    """How a member of a batch stands: pending, or how it has ended."""

    PENDING = "pending"
    FINISHED = "finished"
    DEAD = "dead"
    DISCARDED = "discarded"
    CANCELLED = "cancelled"
    DELETED = "deleted"


class Takes(Protocol):
    """An open block: it takes the jobs that are deferred in it."""

    def take(self, jobs: Sequence[NewJob]) -> list[Any]:
        """Keep new jobs until the block ends. Returns their handles."""


opened: ContextVar[Takes | None] = ContextVar("jobs_batch", default=None)
member_of: ContextVar[tuple[str, str]] = ContextVar(
    "jobs_member_of", default=("", "")
)  # the batch, and the job that runs


@contextmanager
def within(batches: bytes, job_id: bytes) -> Iterator[None]:
    """Run a member of these batches: a batch that it opens is a child of the first."""
    token = member_of.set((as_text(batches).partition(" ")[0], as_text(job_id)))
    try:
        yield
    finally:
        member_of.reset(token)


class Prepared(NamedTuple):
    """A job that is not deferred yet; `Command.prepare` returns it, and a batch enqueues it as a callback."""

    job: NewJob


class Header(NamedTuple):
    """The record of a batch."""

    name: str
    tags: tuple[str, ...]
    parent: str  # the id of the batch around it, or ""
    depth: int  # 1 for a batch without a parent
    is_cancelled: bool
    is_flow: bool
    created: float  # seconds since the epoch, as are the next three; 0.0: not yet
    complete: float
    success: float
    dead: float


def callback_id(batch_id: str, event: str) -> str:
    """Return the id of the job that a batch enqueues at an event. It follows from both, so the job exists once."""
    return f"{batch_id}-{event}"


def is_callback(job_id: str) -> bool:
    """Whether `callback_id` has made this id: no other job's ends so."""
    return job_id.rpartition("-")[2] in EVENTS


def callback_of(batch_id: str, event: str, prepared: Prepared, parent: str) -> NewJob:
    """
    Return the job that a batch enqueues at an event: it neither is unique nor collapses, and from the event on it is a
    member of the parent.
    """
    first, job = f"{CHILD}{batch_id}:{event}", prepared.job
    return job._replace(
        id=callback_id(batch_id, event),
        fields=more.added((*job.fields, "callback", batch_id), more.FEW),
        prerequisites=Prerequisites((first,), durable=(first,) if job.durable else ()),
        lock=None,
        collapse=None,
        batch=parent,
    )


# --- writing ---------------------------------------------------------------------------------


class NewHeader(NamedTuple):
    """What is written of a new batch. `step`: the member that opens it; `lock`: the key of a unique flow's lock."""

    name: str
    tags: tuple[str, ...]
    depth: int
    parent: str
    step: str = ""
    is_flow: bool = False
    lock: str = ""


def create(client: Redis, batch_id: str, new: NewHeader, *, later: bool = False) -> str:
    """
    Write a batch, held open by its creator. `later`: the parent may be written later. Returns the id of the flow that
    holds the lock, if there is one: then nothing is written; else "".

    Raises BatchEndedError if the parent has ended, BatchNotFoundError if it is gone, RedisUnavailableError.
    """
    about: list[Word] = ["name", new.name, "tags", orjson.dumps(list(new.tags)), "depth", new.depth]
    about += ("flow", "1") if new.is_flow else ()
    words = (new.parent, "later" if later else "", CREATOR, new.step, new.lock)
    answer = _ask(client, batch_id, "open", *words, *about, refused=new.parent)
    return answer.removeprefix("held ") if answer.startswith("held ") else ""


def hold(client: Redis, batch_id: str, holder: str) -> None:
    """Keep a batch open until `seal`. Raises BatchEndedError, BatchNotFoundError, RedisUnavailableError."""
    _ask(client, batch_id, "hold", holder, refused=batch_id)


def seal(client: Redis, batch_id: str, holder: str = CREATOR, withdrawn: Iterable[str] = ()) -> None:
    """
    All jobs of that holder are written: hold the batch open no longer. `withdrawn`: those that never will be, because a
    person cancelled or deleted them in the outbox; they count as deleted. Raises BatchNotFoundError.
    """
    _ask(client, batch_id, "seal", holder, *withdrawn, refused=batch_id)


def run_again(client: Redis, batch_id: str, steps: Mapping[str, bytes]) -> None:
    """Say which steps of a flow are to run again, and what each lacks then. Raises BatchNotFoundError."""
    _ask(client, batch_id, "again", *(word for step in steps.items() for word in step), refused=batch_id)


def cancel(client: Redis, batch_id: str) -> None:
    """Let nothing more be added, and nobody hold the batch open. Raises BatchNotFoundError."""
    _ask(client, batch_id, "cancel", refused=batch_id)


def steps_to_run_again(client: Redis, batch_id: str) -> dict[str, bytes]:
    """Return the steps of a flow that are to run again, and what each lacks then."""
    with reaching(client):
        answer: Any = run_script(client, _BATCH, [], [keys.RQ, batch_id, "steps"], is_repeatable=True)
    if isinstance(answer, bytes):
        raise not_found(batch_id)
    return {as_text(step): lacked for step, lacked in zip(answer[::2], answer[1::2], strict=True)}


def sweep(client: Redis, batch_id: str, most: int) -> int:
    """
    End members that no script of ours has ended: of `most` pending and `most` dead ones at random. Returns how many are
    pending then; -1 for a batch that is not written.
    """
    with reaching(client):
        return int(run_script(client, _BATCH, [], [keys.RQ, batch_id, "sweep", most], is_repeatable=True))


def _ask(client: Redis, batch_id: str, what: str, *words: Word, refused: str) -> str:
    with reaching(client):
        answer = as_text(run_script(client, _BATCH, [], [keys.RQ, batch_id, what, *words], is_repeatable=True))
    if answer == "ended":
        raise BatchEndedError(
            f"Batch {refused} takes no more jobs: it has ended or was cancelled. Add them to a new batch."
        )
    if answer == "missing":
        raise not_found(refused)
    return answer


def not_found(batch_id: str, *, is_awaited: bool = False) -> BatchNotFoundError:
    """Return the error for a batch without a record. `is_awaited`: it is written at the end of its block or later."""
    if is_awaited:
        return BatchNotFoundError(
            f"Batch {batch_id} is not written: that happens at the end of its block, or at the commit of the "
            "transaction around it."
        )
    return BatchNotFoundError(
        f"No batch {batch_id!r}: it was never written, or it ended more than a day ago and is forgotten."
    )


# --- reading ---------------------------------------------------------------------------------


def read(client: Redis, batch_id: str) -> Header | None:
    """Return the record of a batch; None without one."""
    with reaching(client):
        return _header(client.hgetall(keys.batch(batch_id)))


def read_with_counts(client: Redis, ids: Sequence[str]) -> list[tuple[Header | None, dict[str, int], bool]]:
    """Return the record of each batch, its members by state, and whether somebody holds it open; one round trip."""
    with reaching(client), client.pipeline(transaction=False) as pipeline:
        for batch_id in ids:
            pipeline.hgetall(keys.batch(batch_id))
            pipeline.exists(keys.batch_holds(batch_id))
            for state in MemberState:
                pipeline.scard(keys.batch_members(state, batch_id))
        answers = iter(pipeline.execute())
    batches = []
    for _ in ids:
        header, is_held = _header(next(answers)), bool(next(answers))
        batches.append((header, {state.value: next(answers) for state in MemberState}, is_held))
    return batches


def listed(client: Redis, first: int, number: int) -> list[str]:
    """Return the ids of some batches, the newest first."""
    with reaching(client):
        ids: Any = client.zrevrange(keys.BATCHES, first, first + number - 1)
    return [as_text(each) for each in ids]


def keys_of(batch_id: str) -> list[str]:
    """Return all keys of a batch."""
    members = [keys.batch_members(state, batch_id) for state in MemberState]
    others = [each(batch_id) for each in (keys.batch_duplicates, keys.batch_children, keys.batch_again)]
    return [keys.batch(batch_id), keys.batch_holds(batch_id), *others, *members]


def is_held(client: Redis, batch_id: str, holder: str) -> bool:
    """Whether that holder still keeps the batch open."""
    with reaching(client):
        return bool(client.sismember(keys.batch_holds(batch_id), holder))


def withdrawn(client: Redis, batch_id: str, ids: Sequence[str]) -> list[str] | None:
    """
    Return None as long as some of these durable jobs, and children as `batch:<id>`, are to become members or duplicates
    of members; then those that never will, because a person cancelled or deleted them in the outbox.
    """
    sets = [keys.batch_duplicates(batch_id), *(keys.batch_members(state, batch_id) for state in MemberState)]
    found = []
    for first in range(0, len(ids), READ_AT_ONCE):
        some = ids[first : first + READ_AT_ONCE]
        with reaching(client), client.pipeline(transaction=False) as pipeline:
            for member in some:
                for key in sets:
                    pipeline.sismember(key, member)
                pipeline.exists(keys.gone(member))
            answers = iter(pipeline.execute())
        for member in some:
            has_arrived = sum(next(answers) for _ in sets)
            is_gone = next(answers)
            if not has_arrived and not is_gone:
                return None
            if not has_arrived:
                found.append(member)
    return found


def _header(record: Mapping[Any, Any]) -> Header | None:
    text = {as_text(name): as_text(value) for name, value in record.items()}
    if "created" not in text:
        return None
    times = [number_of(text.get(each)) for each in ("created", COMPLETE, SUCCESS, DEAD)]
    depth = int(number_of(text.get("depth"))) or 1
    is_cancelled = text.get("cancelled") == "1"
    about = (text.get("name", ""), _tags(text.get("tags", "")), text.get("parent", ""), depth, is_cancelled)
    return Header(*about, text.get("flow") == "1", *times)


def _tags(text: str) -> tuple[str, ...]:
    try:
        return tuple(map(str, orjson.loads(text)))
    except (ValueError, TypeError):  # tampered with
        return ()
