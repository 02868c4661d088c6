"""
Undoes the effects of an attempt on the database connections of its thread.

An attempt begins with a new, closed connection object of Django's for each database. So attributes, execute wrappers,
open transactions and logged queries of the last job are gone. When the attempt ends, the driver's connection is closed
(`CONN_MAX_AGE` is 0, or a backend that cannot reset its session), returned to the pool, or reset and kept for the
thread's next attempt. Django's own `connect` then takes the kept one, so signals and time zone are those of a new
connection.
"""

import contextlib
import select
import threading
import time
from contextvars import ContextVar
from functools import partial
from typing import Any

from django.db import connections
from django.db.backends.signals import connection_created

from jobs import conf
from jobs.attempts.claim import Claim
from jobs.safe_logging import safe_logger

logger = safe_logger("jobs.worker")

FRESH = 1.0  # seconds since its reset in which a kept connection is only checked for having been closed

# The statements of DISCARD ALL, in its documentation's order: DISCARD ALL itself allows no other statement beside it,
# and the time zone belongs in the same round trip. A connection that prepares statements by itself
# (OPTIONS["prepare_threshold"]) keeps them, because the driver would go on using them.
_RESET = (
    "CLOSE ALL; RESET SESSION AUTHORIZATION; RESET ALL; {deallocate}UNLISTEN *; SELECT pg_advisory_unlock_all(); "
    "DISCARD PLANS; DISCARD TEMP; DISCARD SEQUENCES; {zone}"
)
# SQLite: SQLITE_OK; actions on temporary objects (create, drop), SQLITE_PRAGMA, SQLITE_ATTACH, SQLITE_DETACH.
_ALLOWED, _SESSION_CHANGES = 0, {3, 4, 5, 6, 12, 13, 14, 15, 19, 24, 25}
_IDLE, _DONE = 0, {1, 2}  # libpq: PQTRANS_IDLE; PGRES_COMMAND_OK, PGRES_TUPLES_OK
# Attributes of a driver's connection that outlive a transaction.
_OF_DRIVER: tuple[str, ...] = ("isolation_level", "read_only", "deferrable", "row_factory", "cursor_factory")
_OF_DRIVER += ("prepare_threshold", "text_factory")  # the latter on sqlite3's

_here = threading.local()  # `opened` in a job thread: the databases that it has opened since the last attempt
_elsewhere: ContextVar["list[tuple[Any, threading.Thread]] | None"] = ContextVar("jobs_elsewhere", default=None)


def prepare() -> None:
    """Prepare the database settings of a worker process. Called once, before its threads start."""
    connections.close_all()
    if not conf.get("RESET_CONNECTIONS"):
        for database in connections.settings.values():
            if database["CONN_MAX_AGE"] != 0:  # Django's pool has checks of its own
                database["CONN_HEALTH_CHECKS"] = True
    connection_created.connect(_opened, dispatch_uid="jobs.worker.databases")


def _opened(connection: Any, **_: object) -> None:
    opened = getattr(_here, "opened", None)
    if opened is not None:
        opened[connection.alias] = _driver_state(connection.connection)
        return
    elsewhere = _elsewhere.get()
    if elsewhere is not None and not any(each is connection for each, _ in elsewhere):
        elsewhere.append((connection, threading.current_thread()))


class Databases:
    """The database connections of one job thread. Create it in that thread, and in its attempts' base context."""

    def __init__(self) -> None:
        self._resets = bool(conf.get("RESET_CONNECTIONS"))
        self._opened: dict[str, tuple[Any, ...]] = {}
        _here.opened = self._opened
        # Opened in threads that an attempt has begun, such as those of `sync_to_async(thread_sensitive=False)`.
        self._elsewhere: list[tuple[Any, threading.Thread]] = []
        _elsewhere.set(self._elsewhere)
        self._new: dict[str, tuple[Any, dict[str, Any]]] = {}  # for the next attempt
        self._kept: dict[str, _Kept] = {}
        for alias in connections:
            try:
                self._renew(alias)
            except Exception as error:  # jobs that use this database will fail with it
                logger.warning("cannot set up the database %r: %s", alias, error)

    def give_back(self, claim: Claim) -> None:
        """Restore the connections after an attempt. Raises nothing."""
        opened = self._opened
        for alias, (wrapper, state) in tuple(self._new.items()):
            if alias in opened or _differs(wrapper, state):
                self._give_back(alias, claim)
        if self._elsewhere:
            self._close_elsewhere(claim)

    def close(self) -> None:
        """Close all connections, when the thread ends."""
        connections.close_all()
        for kept in self._kept.values():
            kept.close()

    def _give_back(self, alias: str, claim: Claim) -> None:
        driver_state = self._opened.pop(alias, None)
        try:
            wrapper: Any = connections[alias]
            is_sound = _settle(wrapper, claim)
            if not self._resets and is_sound:
                wrapper.queries_log.clear()
                wrapper.close_if_unusable_or_obsolete()
            else:
                is_sound = is_sound and driver_state == _driver_state(wrapper.connection)
                self._keep_or_close(wrapper, is_sound=is_sound)
            if wrapper.connection is not None:  # kept with all its state, or in memory, where it is never closed
                self._opened[alias] = _driver_state(wrapper.connection)
            else:
                self._renew(alias)
        except Exception:
            logger.exception("could not return the database connection %r", alias)

    def _renew(self, alias: str) -> None:
        """Install a new connection object, which takes the kept connection when it is opened."""
        with contextlib.suppress(AttributeError):  # this thread has none yet
            del connections[alias]
        wrapper = connections[alias]
        if alias in self._kept:
            wrapper.get_new_connection = partial(self._kept[alias].take, wrapper)  # type: ignore[method-assign]
        state = {name: list(value) if type(value) is list else value for name, value in vars(wrapper).items()}
        self._new[alias] = wrapper, state

    def _keep_or_close(self, wrapper: Any, *, is_sound: bool) -> None:
        """Leave `wrapper` without a connection, unless its database is in memory."""
        alias, raw = wrapper.alias, wrapper.connection
        kept = self._kept.get(alias)
        if kept is not None and kept.is_taken:
            del self._kept[alias]
        if raw is None:
            return
        if wrapper.settings_dict["OPTIONS"].get("pool"):
            if is_sound and _reset(raw):
                wrapper._configure_connection(raw)  # as the pool does when it opens one
            else:
                _end(wrapper)
        elif is_sound and wrapper.settings_dict["CONN_MAX_AGE"] != 0 and alias not in self._kept:
            close_at = kept.close_at if kept is not None and kept.raw is raw else wrapper.close_at
            is_too_old = close_at is not None and time.monotonic() >= close_at
            if not is_too_old and (new := _forgotten(wrapper, kept)) is not None:
                if kept is None or kept.raw is not new:
                    kept = _Kept(new, close_at, getattr(wrapper, "isolation_level", None))
                self._kept[alias] = kept.given_back()
                if new is raw:
                    wrapper.connection = None
        wrapper.close()

    def _close_elsewhere(self, claim: Claim) -> None:
        for each in list(self._elsewhere):  # a thread that goes on may open another meanwhile
            wrapper, thread = each
            if thread.is_alive():
                continue
            self._elsewhere.remove(each)
            try:
                wrapper.inc_thread_sharing()
                _settle(wrapper, claim)
                wrapper.close()
            except Exception:
                logger.exception("could not close the database connection %r", wrapper.alias)


class _Kept:
    """A driver's connection with a reset session, kept for the next attempt."""

    def __init__(self, raw: Any, close_at: float | None, isolation_level: Any) -> None:
        self.raw = raw
        self.close_at = close_at  # monotonic seconds
        self.is_taken = self.is_changed = False
        self._isolation_level = isolation_level
        self._since = time.monotonic()
        if hasattr(raw, "set_authorizer"):
            raw.set_authorizer(self._authorize)

    def given_back(self) -> "_Kept":
        self.is_taken, self._since = False, time.monotonic()
        return self

    def _authorize(self, action: int, *_: object) -> int:
        """Record a change of the session: SQLite calls this for each statement that it compiles."""
        if action in _SESSION_CHANGES:
            self.is_changed = True
        return _ALLOWED

    def take(self, wrapper: Any, params: dict[str, Any]) -> Any:
        """Replace `wrapper.get_new_connection`, once. Opens a new connection if this one is too old or broken."""
        self.is_taken = True
        del wrapper.get_new_connection
        if not self._is_usable():
            self.close()
            return wrapper.get_new_connection(params)
        if self._isolation_level is not None:
            wrapper.isolation_level = self._isolation_level
        return self.raw

    def close(self) -> None:
        try:
            self.raw.close()
        except Exception as error:
            logger.warning("could not close a database connection: %s", error)

    def _is_usable(self) -> bool:
        now = time.monotonic()
        if self.close_at is not None and now >= self.close_at:
            return False
        if not hasattr(self.raw, "pgconn"):
            return True
        try:
            # A server that ends a connection sends a message and the end of the stream: the socket is readable.
            poll = select.poll()
            poll.register(self.raw.fileno(), select.POLLIN)
            if now - self._since < FRESH and not poll.poll(0):
                return True
            status: int = self.raw.pgconn.exec_(b"SELECT 1").status
            return status in _DONE
        except Exception:
            return False


def _differs(wrapper: Any, state: dict[str, Any]) -> bool:
    try:
        return bool(vars(wrapper) != state)
    except Exception:  # from the comparison of a value that a job has set
        return True


def _settle(wrapper: Any, claim: Claim) -> bool:
    """Roll back a transaction that the job has left open, and log it. Returns True if no transaction was open."""
    raw, autocommit = wrapper.connection, wrapper.settings_dict["AUTOCOMMIT"]
    if raw is None or not (wrapper.in_atomic_block or (autocommit and not wrapper.autocommit)):
        return True
    logger.error(
        "job %s has left a transaction of the database %r open: it is rolled back, and %d callbacks that waited for "
        "its commit are dropped",
        claim.job_id,
        wrapper.alias,
        len(wrapper.run_on_commit),
    )
    _end(wrapper)
    wrapper.close()
    return False


def _end(wrapper: Any) -> None:
    """Roll back the open transaction. Closes a connection of Django's pool, which then opens another in its place."""
    raw = wrapper.connection
    try:
        raw.rollback()
        if wrapper.settings_dict["OPTIONS"].get("pool"):
            raw.close()
    except Exception as error:
        logger.warning("could not roll back on the database %r: %s", wrapper.alias, error)
    wrapper.in_atomic_block = wrapper.needs_rollback = False
    wrapper.savepoint_ids, wrapper.atomic_blocks, wrapper.run_on_commit = [], [], []


def _forgotten(wrapper: Any, kept: _Kept | None) -> Any:
    """
    Return a connection to this wrapper's database with a clean session: its own one, reset, or another. None if the
    backend supports neither.
    """
    if not type(wrapper).get_new_connection.__module__.startswith("django."):
        return None  # it may do more when it opens a connection
    if wrapper.vendor == "postgresql":
        return wrapper.connection if _reset(wrapper.connection, wrapper.timezone_name) else None
    if wrapper.vendor == "sqlite" and not wrapper.is_in_memory_db():
        if kept is not None and kept.raw is wrapper.connection and not kept.is_changed:
            return kept.raw
        # SQLite cannot reset a session. Open another before the old one is closed: the last connection to leave a
        # database in WAL mode writes the whole log back, which takes ten times as long as all else.
        return wrapper.get_new_connection(wrapper.get_connection_params())
    return None


def _reset(raw: Any, zone: str | None = None) -> bool:
    """
    Reset a PostgreSQL session in one round trip. `zone`: the time zone that Django's `connect` would set next. Returns
    whether it was reset; a connection of psycopg2 is not.
    """
    pgconn = getattr(raw, "pgconn", None)
    if pgconn is None or not raw.autocommit or pgconn.transaction_status != _IDLE:
        return False
    statement = _RESET.format(
        deallocate="DEALLOCATE ALL; " if raw.prepare_threshold is None else "",
        zone="" if zone is None else "SET TIME ZONE '{}'".format(zone.replace("'", "''")),
    )
    status: int = pgconn.exec_(statement.encode()).status
    return status in _DONE


def _driver_state(raw: Any) -> tuple[Any, ...]:
    return tuple(getattr(raw, name, None) for name in _OF_DRIVER)
