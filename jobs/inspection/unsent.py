"""The jobs of the outbox as lists show them, read from the database: durable ones that Redis does not have yet."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from django.db import DatabaseError
from django.utils import timezone

from jobs import conf
from jobs.broker.connections import get_connection
from jobs.broker.times import iso
from jobs.errors import PayloadError
from jobs.inspection.rows import UNREADABLE, Row, called
from jobs.job import JobState, MandateJob
from jobs.outbox import rows
from jobs.record import packed

if TYPE_CHECKING:
    from jobs.models import Unsent


def states() -> list[JobState]:
    """Return the states that jobs of this project may have: all, and UNSENT only with an outbox."""
    return [state for state in JobState if state is not JobState.UNSENT or rows.is_on()]


def count(queues: Sequence[str]) -> int:
    """Count the unsent jobs of these queues; 0 without an outbox, or while its database is down."""
    try:
        return rows.count(queues) if rows.is_on() else 0
    except DatabaseError:  # the counts of what is in Redis are worth more than none
        return 0


def backlog() -> rows.Backlog | None:
    """Return how many jobs are unsent, and for how long; None without an outbox, or while its database is down."""
    try:
        return rows.backlog() if rows.is_on() else None
    except DatabaseError:
        return None


def listed(queues: Sequence[str], first: int, size: int, *, newest_first: bool) -> list[tuple[str, Row | None]]:
    """Return unsent jobs of these queues in the order in which they were deferred, with their queues."""
    if not rows.is_on():
        return []
    return [(row.queue, _row(row)) for row in rows.page(queues, first, size, newest_first=newest_first)]


def named(queues: Sequence[str], job_id: str) -> list[tuple[str, Row | None]]:
    """Return the unsent job of that id, if it is of one of these queues."""
    row = rows.find(job_id)
    return [(row.queue, _row(row))] if row is not None and row.sent_at is None and row.queue in queues else []


def find(job_id: str) -> MandateJob | None:
    """Return the job of that id, if it is in the outbox alone, and of a queue of this project."""
    row = rows.find(job_id)
    if row is None or not conf.is_queue(row.queue):
        return None
    job = MandateJob.handle(row.job_id, row.queue, _payload(row), get_connection(row.queue))
    job.is_durable = True
    return job


def _payload(row: "Unsent") -> bytes:
    try:
        return packed.unpack(row.job_id, row.queue, bytes(row.packed)).payload
    except PayloadError:
        return b""


def _row(row: "Unsent") -> Row:
    client, data = get_connection(row.queue), _payload(row)
    command, uncalled, call = called(row.job_id, row.queue, client, data, len(data)) if data else ("", UNREADABLE, None)
    created = row.created if timezone.is_aware(row.created) else timezone.make_aware(row.created)
    stored = {"status": "", "created_at": iso(created.timestamp())}
    return Row(row.job_id, row.queue, JobState.UNSENT, command, client, call, uncalled, stored)
