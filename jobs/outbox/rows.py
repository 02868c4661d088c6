"""
The rows of the outbox, on the database of JOBS["OUTBOX"]: durable jobs that Redis does not have yet, and with
JOBS["OUTBOX_KEEP"] those that have not ended. No other module reads or writes them.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.db.models import QuerySet
from django.utils import timezone

from jobs import conf

if TYPE_CHECKING:
    from jobs.models import Unsent

SLICE = 500  # rows in one statement
SLICE_BYTES = 1_048_576  # of packed jobs in one statement, unless one alone has more


class NewRow(NamedTuple):
    """A row about to be inserted. `server`: the address of its queue's server; `due`: seconds since the epoch."""

    job_id: str
    server: str
    queue: str
    packed: bytes
    due: float | None


class Backlog(NamedTuple):
    """How many jobs are unsent, and how many seconds ago the oldest was deferred: 0.0 without one."""

    number: int
    oldest: float


def alias() -> str:
    """Return the outbox's database alias. ImproperlyConfigured if JOBS["OUTBOX"] names no database."""
    name = conf.get("OUTBOX")
    if name is None:
        raise ImproperlyConfigured(
            'Durable jobs need the outbox. Set JOBS["OUTBOX"] to a database alias, such as "default".'
        )
    if name not in connections.settings:
        raise ImproperlyConfigured(
            f"JOBS['OUTBOX'] is {name!r}, which is no database. DATABASES has: {', '.join(connections.settings)}."
        )
    return str(name)


def is_on() -> bool:
    """Whether the project has an outbox."""
    return conf.get("OUTBOX") is not None


def are_kept() -> bool:
    """Whether rows are kept until their jobs have ended."""
    return bool(conf.get("OUTBOX_KEEP") == "ended")


def connection() -> Any:
    """Return the calling thread's connection of the outbox."""
    return connections[alias()]


# --- writing ---------------------------------------------------------------------------------


def insert(rows: Iterable[NewRow]) -> None:
    """Insert rows, in the caller's transaction if one is open, else in one of its own. Raises DatabaseError."""
    model, using, now = _model(), alias(), timezone.now()
    rows = iter(rows)
    with transaction.atomic(using=using, savepoint=False):
        while some := _next_slice(rows):
            manager = model._default_manager.using(using)
            manager.bulk_create(
                model(
                    job_id=row.job_id,
                    server=row.server[:255],
                    queue=row.queue,
                    packed=row.packed,
                    due=None if row.due is None else _as_time(row.due),
                    created=now,
                )
                for row in some
            )


def sent(ids: Sequence[str]) -> None:
    """Redis has these jobs: delete their rows, or mark them where rows are kept. Raises DatabaseError."""
    if not are_kept():
        remove(ids)
        return
    for some in _slices(ids):
        _rows().filter(job_id__in=some, sent_at=None).update(sent_at=timezone.now())


def remove(ids: Sequence[str]) -> None:
    """Delete the rows of these jobs. Raises DatabaseError."""
    for some in _slices(ids):
        _rows().filter(job_id__in=some).delete()


def forget(job_id: str) -> None:
    """Delete the row of a job that ends with the caller's transaction. Raises DatabaseError."""
    remove([job_id])


# --- reading ---------------------------------------------------------------------------------


def find(job_id: str) -> "Unsent | None":
    """Return the row of a job; None if it has none, or there is no outbox. Raises DatabaseError."""
    return _rows().filter(job_id=job_id).first() if is_on() else None


def having(ids: Collection[str]) -> set[str]:
    """Return which of these jobs have a row. Raises DatabaseError."""
    listed = list(ids)
    return {
        job_id
        for some in _slices(listed)
        for job_id in _rows().filter(job_id__in=some).values_list("job_id", flat=True)
    }


def unsent(queues: Sequence[str], age: float, after: int = 0) -> "list[Unsent]":
    """Return the next SLICE unsent rows of these queues after an id, `age` seconds old. Raises DatabaseError."""
    rows = _rows().filter(sent_at=None, id__gt=after, queue__in=queues)
    if age:
        rows = rows.filter(created__lt=timezone.now() - timedelta(seconds=age))
    return list(rows.order_by("id")[:SLICE])


def oldest(after: int = 0) -> "list[Unsent]":
    """Return the next SLICE unsent rows after an id, of whatever queues. Raises DatabaseError."""
    return list(_rows().filter(sent_at=None, id__gt=after).order_by("id")[:SLICE])


def kept(queues: Sequence[str], after: int = 0) -> "list[Unsent]":
    """Return the next SLICE rows of these queues after an id, that were sent and are kept. Raises DatabaseError."""
    return list(_rows().filter(sent_at__isnull=False, id__gt=after, queue__in=queues).order_by("id")[:SLICE])


def page(queues: Sequence[str], first: int, size: int, *, newest_first: bool) -> "list[Unsent]":
    """Return unsent rows of these queues in the order in which they were deferred. Raises DatabaseError."""
    rows = _rows().filter(sent_at=None, queue__in=queues).order_by("-id" if newest_first else "id")
    return list(rows[first : first + size])


def count(queues: Sequence[str]) -> int:
    """Count the unsent rows of these queues. Raises DatabaseError."""
    return _rows().filter(sent_at=None, queue__in=queues).count()


def backlog() -> Backlog:
    """Return how many jobs are unsent, and for how long. Raises DatabaseError."""
    if not is_on() or not (number := _rows().filter(sent_at=None).count()):
        return Backlog(0, 0.0)
    oldest = _rows().filter(sent_at=None).order_by("id").values_list("created", flat=True).first()
    return Backlog(number, 0.0 if oldest is None else max(0.0, (timezone.now() - oldest).total_seconds()))


def _model() -> "type[Unsent]":
    return apps.get_model("jobs", "Unsent")  # models are not there yet when this module is imported


def _rows() -> "QuerySet[Unsent]":
    return _model()._default_manager.using(alias())


def _slices(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[first : first + SLICE] for first in range(0, len(ids), SLICE))


def _next_slice(rows: Iterator[NewRow]) -> list[NewRow]:
    some: list[NewRow] = []
    size = 0
    for row in islice(rows, SLICE):
        some.append(row)
        size += len(row.packed)
        if size > SLICE_BYTES:
            break
    return some


def _as_time(seconds: float) -> datetime:
    at = datetime.fromtimestamp(seconds, timezone.get_default_timezone())
    return at if timezone.is_aware(timezone.now()) else timezone.make_naive(at, timezone.get_default_timezone())
