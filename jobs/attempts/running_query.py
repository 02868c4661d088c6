"""Database connections of an attempt that is interrupted: the database is asked to stop, and the connections go."""

import threading
from types import FrameType
from typing import Any

from django.db import connections
from django.db.backends.utils import CursorWrapper
from django.db.utils import DatabaseErrorWrapper

from jobs.telling import teller

logger = teller("jobs.worker")

ASK_FOR = 5.0  # seconds that the request to stop may take
_DEPTH = 30  # frames between the one that waits for the database and Django's
_MODULES = ("django.db.backends.", "django.db.utils", "psycopg", "MySQLdb", "oracledb", "selectors")


def awaited(frame: FrameType | None) -> Any:
    """
    The driver's connection that a thread is using, found in its frames, the innermost of which is `frame`; None where
    the innermost frames are not those of Django or of a driver.
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
        frame = frame.f_back
    return None


def ask_to_stop(raw: Any) -> threading.Thread | None:
    """
    Ask the database to stop what it does on a driver's connection, so that an ordinary error comes from there: by
    psycopg's `cancel_safe`, by `cancel` of psycopg2 and oracledb, by sqlite3's `interrupt`. Returns the thread that
    asks over the network, if one does; None as well where the driver cannot.
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
    Close the calling thread's database connections for good, whatever state an interrupt has left them in: the next
    use of an alias makes everything anew. Raises nothing.
    """
    for wrapper in connections.all(initialized_only=True):
        raw = wrapper.connection
        if raw is None and not wrapper.in_atomic_block:
            continue
        del connections[wrapper.alias]
        try:
            if raw is not None:
                raw.close()  # Django leaves one open that is in a transaction
            wrapper.in_atomic_block = False
            wrapper.close()  # gives it back to a pool, which sees that it is closed
        except Exception:
            logger.warning("could not close the database connection %r", wrapper.alias, exc_info=True)
