"""Asks the database to stop the query of an interrupted attempt, and closes the attempt's connections."""

import threading
from contextlib import suppress
from types import FrameType
from typing import Any

from django.db import Error, connections
from django.db.backends.utils import CursorWrapper
from django.db.utils import DatabaseErrorWrapper

from jobs.safe_logging import safe_logger

logger = safe_logger("jobs.worker")

ASK_FOR = 5.0  # seconds that the request to stop may take
_DEPTH = 30  # frames between the one that waits for the database and Django's
_MODULES = (
    "django.db.backends.",
    "django.db.utils",
    "psycopg",
    "MySQLdb",
    "pymysql",
    "oracledb",
    "selectors",
    "socket",
)


class _QueryOfMySQL:
    """The query on a connection to MySQL or MariaDB, whose drivers cannot stop it: another connection has to."""

    def __init__(self, wrapper: Any) -> None:
        self._wrapper, self._number = wrapper, wrapper.connection.thread_id()

    def cancel(self) -> None:
        other = self._wrapper.get_new_connection(self._wrapper.get_connection_params() | {"connect_timeout": ASK_FOR})
        try:
            other.cursor().execute(f"KILL QUERY {self._number}")
        finally:
            other.close()


def awaited(frame: FrameType | None) -> Any:
    """
    Return the driver's connection that a thread is using, from its frames, of which `frame` is the innermost. None if
    the innermost frames are not Django's or a driver's.
    """
    for _ in range(_DEPTH):
        if frame is None or not frame.f_globals.get("__name__", "").startswith(_MODULES):
            return None
        owner = frame.f_locals.get("self")
        if isinstance(owner, CursorWrapper):
            owner = owner.db
        elif isinstance(owner, DatabaseErrorWrapper):
            owner = owner.wrapper  # type: ignore[attr-defined]
        raw = getattr(owner, "connection", owner)  # of Django's connection, or of a driver's cursor
        if hasattr(raw, "cancel") or hasattr(raw, "interrupt"):
            return raw
        if getattr(owner, "vendor", "") == "mysql" and raw is not None:
            return _QueryOfMySQL(owner)
        frame = frame.f_back
    return None


def ask_to_stop(raw: Any) -> threading.Thread | None:
    """
    Ask the database to stop the query on a driver's connection, which then raises an ordinary error: by psycopg's
    `cancel_safe`, by `cancel` of psycopg2 and oracledb, by `KILL QUERY` on another connection to MySQL or MariaDB, or
    by sqlite3's `interrupt`. Returns the thread that sends the
    request over the network; None if there is no request to send, or the driver supports none.
    """
    if hasattr(raw, "interrupt"):
        try:
            raw.interrupt()
        except Exception as error:  # it was closed just now
            logger.info("the database was not asked to stop: %s", error)
        return None
    ask = getattr(raw, "cancel_safe", None) or getattr(raw, "cancel", None)
    if ask is None:
        return None
    limit = {"timeout": ASK_FOR} if hasattr(raw, "cancel_safe") else {}

    def asking() -> None:
        try:
            ask(**limit)
        except Exception as error:
            logger.warning("the database could not be asked to stop: %s", error)

    thread = threading.Thread(target=asking, name="jobs-stop-query", daemon=True)
    thread.start()
    return thread


def discard() -> None:
    """
    Close the calling thread's database connections for good, whatever state an interrupt has left them in. The next
    use of an alias creates a new connection object. Raises nothing.
    """
    for wrapper in connections.all(initialized_only=True):
        raw = wrapper.connection
        if raw is None and not wrapper.in_atomic_block:
            continue
        del connections[wrapper.alias]
        try:
            if raw is not None:
                raw.close()  # Django leaves a connection in a transaction open
            wrapper.in_atomic_block = False
            with suppress(Error):  # MySQL's drivers refuse to close it twice
                wrapper.close()  # returns it to a pool, which notices that it is closed
        except Exception:
            logger.warning("could not close the database connection %r", wrapper.alias, exc_info=True)
