"""Commands that change their thread's surroundings and do not change them back, and one that shows what it finds."""

import decimal
from contextvars import ContextVar
from typing import ClassVar
from zoneinfo import ZoneInfo

from asgiref.sync import sync_to_async
from django.core.cache import caches
from django.db import connection, connections, transaction
from django.urls import get_script_prefix, get_urlconf, set_script_prefix, set_urlconf
from django.utils import timezone, translation

from jobs import Mandate
from tests.sample.models import Note

TENANT: ContextVar[str] = ContextVar("tenant", default="none")
CHANGES_OF_SESSION = {
    "sqlite": ["PRAGMA case_sensitive_like = ON", "CREATE TEMP TABLE left_over (n integer)"],
    "postgresql": [
        "SET statement_timeout = 54321",
        "CREATE TEMP TABLE left_over (n integer)",
        "SELECT pg_advisory_lock(54321)",
        "SET ROLE pg_monitor",
    ],
    "mysql": [
        "SET SESSION max_statement_time = 54",
        "CREATE TEMPORARY TABLE left_over (n integer)",
        "SELECT GET_LOCK('54321', 0)",
    ],
}
SESSION = {
    "sqlite": {"like": "SELECT 'A' LIKE 'a'", "temporary": "SELECT count(*) FROM sqlite_temp_master"},
    "postgresql": {
        "timeout": "SHOW statement_timeout",
        "temporary": "SELECT count(*) FROM pg_class WHERE relname = 'left_over'",
        "locks": "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
        "role": "SELECT current_user",
        "zone": "SHOW timezone",
        "pid": "SELECT pg_backend_pid()",
    },
    "mysql": {
        "timeout": "SELECT @@max_statement_time",
        "locks": "SELECT IS_FREE_LOCK('54321')",
        "zone": "SELECT @@time_zone",
        "pid": "SELECT connection_id()",
    },
}


def shown() -> dict[str, object]:
    """The surroundings of the caller, without the database's session."""
    return {
        "language": translation.get_language(),
        "zone": timezone.get_current_timezone_name(),
        "tenant": TENANT.get(),
        "precision": decimal.getcontext().prec,
        "prefix": get_script_prefix(),
        "urlconf": get_urlconf(),
        "attribute": getattr(connection, "tenant", None),
        "wrappers": len(connection.execute_wrappers),
        "debug": connection.force_debug_cursor,
        "atomic": connection.in_atomic_block,
    }


def ask(statement: str) -> object:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


class ChangeContext(Mandate):
    """Changes what belongs to the context."""

    def call(self) -> None:
        translation.activate("de")
        timezone.activate(ZoneInfo("Asia/Tokyo"))
        TENANT.set("acme")
        decimal.getcontext().prec = 3
        set_script_prefix("/elsewhere")
        set_urlconf("tests.django_rq_urls")


class ChangeContextAsync(Mandate):
    """The same in async code, whose context asgiref copies to the thread."""

    async def call(self) -> None:
        ChangeContext().call()


class ChangeAttributes(Mandate):
    """Changes Django's connection object, and need not use it."""

    def call(self) -> None:
        connection.tenant = "acme"
        connection.force_debug_cursor = True
        connection.execute_wrappers.append(lambda execute, *args: execute(*args))


class ChangeSession(Mandate):
    """Changes the session in the database, and leaves attributes too."""

    def call(self) -> None:
        ChangeAttributes().call()
        with connection.cursor() as cursor:
            for statement in CHANGES_OF_SESSION[connection.vendor]:
                cursor.execute(statement)
        if connection.vendor == "postgresql":
            connection.connection.read_only = True


class LeaveTransactionOpen(Mandate):
    """Enters `atomic` and never leaves it."""

    def call(self) -> None:
        transaction.atomic().__enter__()
        Note.objects.create(text="not committed")
        transaction.on_commit(lambda: Note.objects.create(text="callback"))


class LeaveNestedOpen(Mandate):
    """The same, two deep."""

    def call(self) -> None:
        transaction.atomic().__enter__()
        Note.objects.create(text="not committed")
        transaction.atomic(savepoint=False).__enter__()


class LeaveAutocommitOff(Mandate):
    def call(self) -> None:
        connection.set_autocommit(False)
        Note.objects.create(text="not committed")


class ShowSurroundings(Mandate):
    """Its result: the surroundings, without a look into the database."""

    def call(self) -> dict[str, object]:
        return shown()


class ShowSession(Mandate):
    """Its result: the surroundings, and the session in the database."""

    def call(self) -> dict[str, object]:
        found = shown()
        session = {name: ask(question) for name, question in SESSION[connection.vendor].items()}
        if connection.vendor == "postgresql":
            session["read only"] = connection.connection.read_only
        return found | {"session": session, "autocommit": connection.get_autocommit()}


class CountQueries(Mandate):
    """Its result: how many queries Django has logged (DEBUG) when it starts."""

    def call(self) -> int:
        found = len(connection.queries_log)
        ask("SELECT 1")
        return found


class OpenElsewhere(Mandate):
    """Opens a connection in a thread of asyncio's executor, and keeps that from being freed."""

    found: ClassVar[list[object]] = []

    async def call(self) -> None:
        await sync_to_async(self.open, thread_sensitive=False)()

    def open(self) -> None:
        ask("SELECT 1")
        self.found.append(connections["default"])


class ShowElsewhere(Mandate):
    """Its result: whether any connection that `OpenElsewhere` opened is still open."""

    def call(self) -> list[bool]:
        return [wrapper.connection is not None for wrapper in OpenElsewhere.found]


class UseCache(Mandate):
    """Its result: which cache object it has."""

    def call(self) -> int:
        return id(caches["default"])
