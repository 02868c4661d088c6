"""Restores the test's database connections, which jobs under the kit use as well, after an attempt."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import DatabaseError

from jobs.testing import patches

logger = logging.getLogger("jobs")

# Attributes that Django itself changes while a connection is used.
_OF_DJANGO = {
    *("connection", "autocommit", "in_atomic_block", "savepoint_state", "savepoint_ids", "atomic_blocks"),
    *("commit_on_exit", "needs_rollback", "rollback_exc", "close_at", "closed_in_transaction", "errors_occurred"),
    *("health_check_enabled", "health_check_done", "run_on_commit", "run_commit_hooks_on_set_autocommit_on"),
    *("queries_log", "isolation_level", "transaction_mode", "init_commands", "_named_cursor_idx"),
}


@contextmanager
def as_found(connection: Any) -> Iterator[None]:
    """
    Leave a connection as it was: its attributes and execute wrappers, autocommit, and the transaction of the test.

    An attempt runs outside a transaction. So a transaction that it leaves open is rolled back. A statement that fails
    ends its transaction, but must not end the test's: on PostgreSQL the test's transaction is rolled back to its state
    before the attempt; other databases undo only the statement.
    """
    is_of_test = patches.is_test_transaction(connection) and not connection.needs_rollback
    sid = _savepoint(connection) if is_of_test and connection.vendor == "postgresql" else None
    before, wrappers = dict(vars(connection)), list(connection.execute_wrappers)
    depth = len(connection.atomic_blocks)
    autocommit = connection.settings_dict["AUTOCOMMIT"] if connection.connection is None else connection.autocommit
    yield
    _restore(connection, before, wrappers)
    _end_blocks(connection, depth)
    if connection.connection is not None and not connection.in_atomic_block:
        _end_transaction(connection, autocommit=autocommit)
    if is_of_test:
        with _uncounted(connection):
            _go_on(connection, sid)


def _savepoint(connection: Any) -> Any:
    with _uncounted(connection):
        return connection.savepoint()


@contextmanager
def _uncounted(connection: Any) -> Iterator[None]:
    """Keep the kit's own queries out of the log: `assertNumQueries` counts those of the jobs."""
    before, connection.force_debug_cursor = connection.force_debug_cursor, False
    try:
        yield
    finally:
        connection.force_debug_cursor = before


def _restore(connection: Any, before: dict[str, Any], wrappers: list[Any]) -> None:
    attributes = vars(connection)
    for name in attributes.keys() - before.keys() - _OF_DJANGO:
        if not hasattr(type(connection), name):  # else it is a cached property
            del attributes[name]
    for name in before.keys() - _OF_DJANGO:
        attributes[name] = before[name]
    connection.execute_wrappers[:] = wrappers


def _end_blocks(connection: Any, depth: int) -> None:
    """Roll back the `atomic` blocks that a job has begun and not ended."""
    left = connection.atomic_blocks[depth:]
    if not left:
        return
    logger.error("a job has left a transaction of the database %r open: it is rolled back", connection.alias)
    while len(connection.atomic_blocks) > depth:
        connection.needs_rollback = True
        connection.atomic_blocks[-1].__exit__(None, None, None)


def _end_transaction(connection: Any, *, autocommit: bool) -> None:
    if connection.autocommit != autocommit:
        logger.error("a job has left autocommit of the database %r off: it is rolled back", connection.alias)
        connection.rollback()
        connection.set_autocommit(autocommit)


def _go_on(connection: Any, sid: str | None) -> None:
    broken, connection.needs_rollback = connection.needs_rollback, False
    if sid is None:
        return
    if not broken:
        try:
            connection.savepoint_commit(sid)
            return
        except DatabaseError:
            pass
    connection.savepoint_rollback(sid)
