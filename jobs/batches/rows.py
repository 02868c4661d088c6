"""Batches as lists show them: each with its members by state, and the batches in it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from redis import Redis

from jobs.batches import members, record
from jobs.batches.record import Header, MemberState
from jobs.broker import keys
from jobs.broker.connections import reaching, servers
from jobs.broker.times import as_text, moment

SHOWN_CHILDREN = 50  # children of a batch that a page lists


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A batch in a list. `state`: open, running, successful, unsuccessful or cancelled."""

    id: str
    name: str
    tags: tuple[str, ...]
    parent: str
    state: str
    counts: dict[str, int]
    is_flow: bool
    client: Redis
    created: datetime
    complete: datetime | None
    success: datetime | None
    dead: datetime | None

    @property
    def total(self) -> int:
        """How many members it has."""
        return sum(self.counts.values())

    @property
    def ended(self) -> int:
        """How many of them have ended."""
        return self.total - self.counts[MemberState.PENDING]

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON shows."""
        times = {name: getattr(self, name) for name in ("created", "complete", "success", "dead")}
        about = {"id": self.id, "name": self.name, "tags": list(self.tags), "parent": self.parent, "state": self.state}
        return {**about, "is_flow": self.is_flow, "total": self.total, "counts": self.counts, **times}


def listed(first: int, number: int) -> list[BatchRow]:
    """Return some batches of all servers, the newest of each server first; two round trips a server."""
    rows = [row for client in servers() for row in of_ids(client, record.listed(client, first, number))]
    return sorted(rows, key=lambda row: row.created, reverse=True)[:number]


def count() -> int:
    """Return how many batches are listed."""
    total = 0
    for client in servers():
        with reaching(client):
            total += int(client.zcard(keys.BATCHES))
    return total


def find(batch_id: str) -> BatchRow | None:
    """Return one batch; None without a record."""
    for client in servers():
        if rows := of_ids(client, [batch_id]):
            return rows[0]
    return None


def of_ids(client: Redis, ids: Sequence[str]) -> list[BatchRow]:
    """Return those of these batches that have a record; one round trip."""
    found = zip(ids, record.read_with_counts(client, ids), strict=True) if ids else ()
    return [_row(client, batch_id, header, counts, is_held) for batch_id, (header, counts, is_held) in found if header]


def children(row: BatchRow) -> list[BatchRow]:
    """Return some of the batches in one, SHOWN_CHILDREN at most; two round trips."""
    with reaching(row.client):
        ids: Any = row.client.srandmember(keys.batch_children(row.id), SHOWN_CHILDREN)
    return of_ids(row.client, sorted(map(as_text, ids)))


def some_jobs(row: BatchRow, most: int) -> list[tuple[str, list[str]]]:
    """Return the ids of some jobs of each state that has any; one round trip."""
    with reaching(row.client), row.client.pipeline(transaction=False) as pipeline:
        for state in MemberState:
            pipeline.sscan(keys.batch_members(state, row.id), 0, count=most)
        answers = pipeline.execute()
    found = []
    for state, (_cursor, some) in zip(MemberState, answers, strict=True):
        ids = sorted(each for each in map(as_text, some) if not each.startswith(record.CHILD))[:most]
        if ids:
            found.append((state.value, ids))
    return found


def callbacks(row: BatchRow) -> list[tuple[str, str, str]]:
    """Return the event, the id and the RQ status of each callback that has a record; one round trip."""
    ids = {event: record.callback_id(row.id, event) for event in record.EVENTS}
    with reaching(row.client), row.client.pipeline(transaction=False) as pipeline:
        for job_id in ids.values():
            pipeline.hget(keys.job(job_id), "status")
        answers = pipeline.execute()
    return [
        (event, job_id, as_text(status)) for (event, job_id), status in zip(ids.items(), answers, strict=True) if status
    ]


def held_for(rows: Iterable[BatchRow], seconds: float, now: float) -> list[BatchRow]:
    """Return the batches that somebody has held open for so long."""
    return [row for row in rows if row.state == "open" and row.created.timestamp() < now - seconds]


def errors(row: BatchRow) -> list[members.ErrorCount]:
    """Return the errors of its dead members."""
    return members.errors(row.client, row.id)


def _row(client: Redis, batch_id: str, header: Header, counts: dict[str, int], is_held: bool) -> BatchRow:
    return BatchRow(
        batch_id,
        header.name,
        header.tags,
        header.parent,
        _state(header, counts, is_held),
        counts,
        header.is_flow,
        client,
        moment(header.created),
        *(moment(at) if at else None for at in (header.complete, header.success, header.dead)),
    )


def _state(header: Header, counts: dict[str, int], is_held: bool) -> str:
    if is_held:
        return "open"
    if counts[MemberState.PENDING]:
        return "running"
    if header.success:
        return "successful"
    return "cancelled" if header.is_cancelled else "unsuccessful"
