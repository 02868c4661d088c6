"""
A loop whose chunks are transactions: the effects of the items and the cursor after them are committed together.

The first statement of each transaction is the fence: it counts up the version of the job's row, if the version is still
the one that this attempt has read. So of two attempts at a job, one of which was taken for dead, the second waits there
for the first, and then finds another version. It begins the chunk anew from the cursor in the row, if the job is still
its own.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import orjson
from django.apps import apps
from django.db import DatabaseError, OperationalError, transaction
from django.utils import timezone

from jobs.broker.ids import key_of
from jobs.record import arguments
from jobs.runtime import passage
from jobs.steps.walk import Walk, encoded


class MovedError(Exception):
    """Raised at the fence if the row has another version than was read: rolls the transaction back."""


class Row(NamedTuple):
    """A row of `Cursor`, as it was read."""

    key: Any
    version: int
    cursor: Any
    done: int


class Chunks:
    """The chunks of one loop, in the database of that alias. `life` is that of the job's `State`."""

    def __init__(self, walk: Walk, body: Callable[[Any], object], size: int, alias: str, step: str) -> None:
        self._walk, self._body, self._size, self._alias, self._step = walk, body, size, alias, step
        self._row: Row | None = None  # None: no worker runs the command, and the cursor is kept here alone
        self.after: Any = None
        self.done = 0

    def open(self, job_id: bytes, life: int) -> None:
        """Read the row of the job, which is inserted if there is none. Raises Django's DatabaseError."""
        key = key_of(b"%b:%d:%b" % (job_id, life, self._step.encode()))
        rows = self._rows()
        found = rows.filter(pk=key).values_list("pk", "version", "cursor", "done").first()
        if found is None:
            try:
                with transaction.atomic(using=self._alias):
                    rows.create(pk=key, other_id=job_id, step=self._step, created_at=timezone.now())
            except DatabaseError:  # another attempt has inserted it, or there is no table
                if not rows.filter(pk=key).exists():
                    raise
            return self.open(job_id, life)
        self._row = Row(found[0], found[1], *_read(found[2]), found[3])
        self.after, self.done = self._row.cursor, self._row.done

    def read_again(self) -> None:
        """Read the row again. Raises Django's DatabaseError, DoesNotExist if it is gone."""
        assert self._row is not None  # noqa: S101
        row = self._rows().get(pk=self._row.key)
        self._row = Row(row.pk, row.version, *_read(row.cursor), row.done)
        self.after, self.done = self._row.cursor, self._row.done

    @passage
    def next(self, passed: Callable[[int], object]) -> int:
        """
        Do the next chunk, in a transaction, and call `passed(n)` after each item, with the number of items that are
        done. Returns how many items it had. Raises MovedError if another attempt has done it, and what the body raises.
        """
        with transaction.atomic(using=self._alias):
            if self._row is not None:
                self._fence(self._row)
            items = self._walk.some(self.after, self._size)
            for number, (item, _) in enumerate(items, self.done + 1):
                self._body(item)
                passed(number)
            if not items:
                return 0
            after, done = items[-1][1], self.done + len(items)
            if self._row is not None:
                data = orjson.dumps(encoded(after, self._step))
                self._rows().filter(pk=self._row.key).update(cursor=data, done=done)
        if self._row is not None:
            self._row = Row(self._row.key, self._row.version + 1, after, done)
        self.after, self.done = after, done
        return len(items)

    def _fence(self, row: Row) -> None:
        try:
            is_ours = self._rows().filter(pk=row.key, version=row.version).update(version=row.version + 1)
        except OperationalError as error:
            if _has_changed(error):
                raise MovedError from error
            raise
        if not is_ours:
            raise MovedError

    def _rows(self) -> Any:
        return apps.get_model("jobs", "Cursor").objects.using(self._alias)


def _read(data: Any) -> tuple[Any]:
    return (None if data is None else arguments.decode(orjson.loads(bytes(data))),)


def _has_changed(error: OperationalError) -> bool:
    """Whether the database says that another transaction has changed the row: a serialization failure."""
    cause: Any = error.__cause__
    code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return code == "40001" or (error.args[:1] or (None,))[0] in (1213, 1020)  # MySQL's, MariaDB's
