"""
`/healthz`: this process answers. `/readyz`: what it needs answers, too: database, Redis, migrations.

A probe names no host, comes without TLS and has no session. So this stands before everything else that looks at a
request, and answers these two paths alone; no answer tells addresses or errors, which are in the log.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import orjson
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

from jobs.connections import servers

logger = logging.getLogger("jobs")

PATIENCE = 2.0  # seconds that all checks together may take


class HealthMiddleware(MiddlewareMixin):
    """Put it first in MIDDLEWARE."""

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        """The answer, if this is a probe."""
        view = {"/healthz": healthz, "/readyz": readyz}.get(request.path_info)
        return None if view is None else view(request)


def healthz(request: HttpRequest) -> HttpResponse:
    """200 as long as this process answers at all."""
    return _response(request, [])


def readyz(request: HttpRequest) -> HttpResponse:
    """200 when everything is there that a page needs; else 503, with what is not, within PATIENCE seconds."""
    checks = list(_checks())
    for check in checks:
        check.start()
    until = time.monotonic() + PATIENCE
    return _response(request, [problem for check in checks if (problem := check.result(until))])


def _response(request: HttpRequest, problems: list[str]) -> HttpResponse:
    if request.method not in ("GET", "HEAD"):
        return HttpResponse(status=405, headers={"Allow": "GET, HEAD"})
    body = {"status": "failing", "problems": problems} if problems else {"status": "ok"}
    return HttpResponse(
        orjson.dumps(body),
        status=503 if problems else 200,
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


# --- what is checked -------------------------------------------------------------------------


class _Check:
    """
    Something that is asked in a thread of its own, because it may hang. While it does nobody asks again: however many
    probes come, there is one thread for each.
    """

    def __init__(self, name: str, ask: Callable[[], str]) -> None:
        """`ask` returns what is wrong, "" for nothing, or raises."""
        self._name, self._ask = name, ask
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._problem = ""

    def start(self) -> None:
        """Ask, unless somebody is asking."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name=f"readyz-{self._name}", daemon=True)
                self._thread.start()

    def result(self, until: float) -> str:
        """What is wrong, "" for nothing. Waits until then (monotonic seconds)."""
        thread = self._thread
        if thread is not None:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                return f"{self._name}: no answer within {PATIENCE:g} s"
        return self._problem

    def _run(self) -> None:
        try:
            problem = self._ask()
        except Exception as error:
            logger.warning("not ready: %s: %s", self._name, error)
            problem = "no answer"
        self._problem = f"{self._name}: {problem}" if problem else ""
        connections.close_all()  # this thread's


_known: dict[str, _Check] = {}
_migrated = False  # whether this process's migrations were once found applied: they stay so


def _checks() -> Iterator[_Check]:
    for alias in connections:
        yield _known.setdefault(f"database {alias}", _Check(f"database {alias}", partial(_ask_database, alias)))
    yield _known.setdefault("Redis", _Check("Redis", _ask_redis))
    yield _known.setdefault("migrations", _Check("migrations", _ask_migrations))


def _ask_database(alias: str) -> str:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT 1")
    return ""


def _ask_redis() -> str:
    for client in servers():
        client.ping()
    return ""


def _ask_migrations() -> str:
    global _migrated
    if not _migrated:
        unapplied = len(unapplied_migrations())
        if unapplied:
            return f"{unapplied} are not applied"
        _migrated = True
    return ""


def unapplied_migrations() -> list[str]:
    """The migrations of this release that the default database has not had. Raises the database's errors."""
    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    return [str(migration) for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())]
