"""
Receipts: rows that make an atomic command happen exactly once in the database.

The first statement of an attempt's transaction inserts the row of its job, and the row is committed with the effects of
`call`. So another attempt at the job waits at that statement until this one has ended. After a rollback the other takes
its place; after a commit it finds the row, and the job finishes with the result that is in it. The last statement
writes that result, and fails if the row is gone: the database has then rolled the transaction back, and `call` has
swallowed the error.
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, NamedTuple

from django.apps import apps
from django.db import connections, transaction
from django.db.models.constants import OnConflict
from django.db.models.sql import InsertQuery
from django.utils import timezone

from jobs.broker import keys
from jobs.broker.connections import servers
from jobs.broker.ids import key_of
from jobs.broker.times import as_text
from jobs.client.options import database_of
from jobs.mandate import Mandate, finished
from jobs.outbox import rows

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from jobs.models import Receipt

KEPT_FOR = timedelta(days=1)  # after Redis has forgotten the job: a server restored from an older file brings it back
SLICE = 500  # receipts that one round trip looks at

Encode = Callable[[Any], bytes | None]


class AlreadyCommittedError(Exception):
    """Raised in an attempt whose job has a receipt: rolls its transaction back before `call`."""


class Found(NamedTuple):
    """The receipt of a job that has happened."""

    result: bytes | None  # of `call`, as JSON


def once(command: Mandate, job_id: bytes, call: Callable[[], Any], encode: Encode) -> Callable[[], Any]:
    """
    Return a function that runs `call`, the command's own, and commits its effects together with the job's receipt. It
    returns the result of `call`, which `encode` turns into JSON for the receipt.

    Whatever that function raises, `find` tells whether the job has happened. It raises AlreadyCommittedError if it had
    before, TransactionManagementError if the transaction has lost the receipt, and what `call` and the database raise.
    """
    alias, key = database_of(command), key_of(job_id)

    @wraps(call)  # an interrupt ignores the frames outside `call`
    def in_transaction() -> Any:
        with transaction.atomic(using=alias):
            if not _insert(alias, key, job_id):
                raise AlreadyCommittedError(f"The receipt of job {as_text(job_id)} is in the database.")
            result = finished(command, call())
            if not _write_result(alias, key, encode(result)):
                raise transaction.TransactionManagementError(
                    f"The transaction of job {as_text(job_id)} has lost its receipt: the database {alias!r} has rolled "
                    "it back, and `call` has swallowed the error. Let it raise, or use a savepoint: an inner `atomic`."
                )
            if rows.is_on() and rows.are_kept() and rows.alias() == alias:
                rows.forget(as_text(job_id))  # a job that has happened is not sent again, even if Redis is lost whole
        connection = connections[alias]
        if not (connection.settings_dict["AUTOCOMMIT"] or connection.in_atomic_block):
            connection.commit()  # without autocommit, the end of `atomic` leaves that to its caller
        return result

    return in_transaction


def find(command: Mandate | type[Mandate], job_id: bytes) -> Found | None:
    """Return the receipt of a job of that command, as committed; None if it has none. Raises Django's DatabaseError."""
    results = _receipts(database_of(command)).filter(pk=key_of(job_id)).values_list("result", flat=True)
    return next((Found(None if result is None else bytes(result)) for result in results), None)


def clean_up(alias: str, model: str = "Receipt") -> int:
    """
    Delete the receipts in a database, or the rows of `Cursor`, whose jobs Redis has forgotten KEPT_FOR ago. Returns
    their number.

    When a job is forgotten no server says, so the first call that finds no record of it notes the time. Raises
    redis-py's errors, if a server does not answer: then no receipt of that slice is touched.
    """
    deleted = 0
    receipts = _rows(alias, model)
    for some in _slices(receipts):
        now = timezone.now()
        known = _known([_job_id(row) for row in some])
        gone = [row for row, is_known in zip(some, known, strict=True) if not is_known]
        back = [row.pk for row, is_known in zip(some, known, strict=True) if is_known and row.forgotten_at]
        over = [row.pk for row in gone if row.forgotten_at and row.forgotten_at <= now - KEPT_FOR]
        receipts.filter(pk__in=back).update(forgotten_at=None)
        receipts.filter(pk__in=[row.pk for row in gone if row.forgotten_at is None]).update(forgotten_at=now)
        deleted += receipts.filter(pk__in=over).delete()[0]
    return deleted


# --- statements ------------------------------------------------------------------------------


@cache
def _model() -> Any:
    """Return the model: a project may import `jobs.testing`, and so this module, before it sets Django up."""
    return apps.get_model("jobs", "Receipt")


def _receipts(alias: str) -> "QuerySet[Receipt]":
    return _model().objects.using(alias)  # type: ignore[no-any-return]


def _rows(alias: str, model: str) -> "QuerySet[Any]":
    return apps.get_model("jobs", model)._default_manager.using(alias)  # type: ignore[no-any-return]


@cache
def _fields() -> Any:
    return [_model()._meta.get_field(name) for name in ("id", "other_id", "created_at")]


def _insert(alias: str, key: uuid.UUID, job_id: bytes) -> bool:
    """Insert the receipt. Returns False if there is one: another attempt has committed it by now."""
    connection = connections[alias]
    other_id = None if str(key).encode() == job_id else job_id
    values = zip(_fields(), (key, other_id, timezone.now()), strict=True)
    with connection.cursor() as cursor:
        cursor.execute(_insertion(alias), [field.get_db_prep_save(value, connection) for field, value in values])
        return bool(cursor.rowcount == 1)


@cache
def _insertion(alias: str) -> str:
    """Return the INSERT, with ON CONFLICT DO NOTHING, IGNORE or OR IGNORE where the database has any of them."""
    connection = connections[alias]
    ignores = connection.features.supports_ignore_conflicts
    query = InsertQuery(_model(), on_conflict=OnConflict.IGNORE if ignores else None)
    query.insert_values(_fields(), [_model()()])
    ((statement, _),) = query.get_compiler(using=alias).as_sql()
    return str(statement)


def _write_result(alias: str, key: uuid.UUID, result: bytes | None) -> bool:
    """Write the result into the receipt. Returns False if the transaction does not have it any more."""
    connection = connections[alias]
    quote, table = connection.ops.quote_name, _model()._meta.db_table
    statement = f"UPDATE {quote(table)} SET {quote('result')} = %s WHERE {quote('id')} = %s"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(statement, [result, _fields()[0].get_db_prep_save(key, connection)])
        return bool(cursor.rowcount == 1)


# --- clean-up --------------------------------------------------------------------------------


def _slices(rows: "QuerySet[Any]") -> Iterator[Sequence[Any]]:
    """Yield all rows without their results or cursors, in the order of their keys."""
    receipts = rows.order_by("pk").only("pk", "other_id", "forgotten_at")
    some = list(receipts[:SLICE])
    while some:
        yield some
        some = list(receipts.filter(pk__gt=some[-1].pk)[:SLICE])


def _job_id(receipt: Any) -> bytes:
    return str(receipt.pk).encode() if receipt.other_id is None else bytes(receipt.other_id)


def _known(job_ids: Sequence[bytes]) -> list[bool]:
    """Return of each job whether any server has its record."""
    known = [False] * len(job_ids)
    for client in servers():
        with client.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                pipeline.exists(keys.job("").encode() + job_id)
            known = [before or bool(found) for before, found in zip(known, pipeline.execute(), strict=True)]
    return known
