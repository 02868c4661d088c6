"""
`/healthz`: this process answers. `/readyz`: its databases and Redis answer, too, and its migrations are applied.

A probe has no host name, no TLS and no session. So the middleware comes before everything else that reads a request,
and answers only these two paths. No answer contains addresses or errors, which are in the log.
"""

import time
from collections.abc import Callable
from functools import partial

import orjson
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

from jobs.broker.connections import servers
from jobs.inspection import version
from jobs.inspection.single_flight import NoAnswerError, SingleFlight
from jobs.safe_logging import safe_logger

logger = safe_logger("jobs")

PATIENCE = 2.0  # seconds that all checks together may take


class HealthMiddleware(MiddlewareMixin):
    """Put it first in MIDDLEWARE."""

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        """Return the answer, if this is a probe."""
        view = {"/healthz": healthz, "/readyz": readyz}.get(request.path_info)
        if view is None:
            return None
        version.publish()
        return view(request)


def healthz(request: HttpRequest) -> HttpResponse:
    """Return 200, as long as this process answers at all."""
    return _response(request, [])


def readyz(request: HttpRequest) -> HttpResponse:
    """Return 200 if everything that a page needs answers; otherwise 503 with the problems, within PATIENCE seconds."""
    questions = _questions()
    for question in questions.values():
        question.start()
    until = time.monotonic() + PATIENCE
    problems = {name: _problem(name, question, until) for name, question in questions.items()}
    return _response(request, [f"{name}: {problem}" for name, problem in problems.items() if problem])


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


# --- checks ----------------------------------------------------------------------------------


_checks: dict[str, SingleFlight[str]] = {}  # each returns the problem, "" for none
_migrated = False  # whether an earlier check in this process saw all migrations applied: they stay so


def _questions() -> dict[str, SingleFlight[str]]:
    asks: dict[str, Callable[[], str]] = {f"database {alias}": partial(_ask_database, alias) for alias in connections}
    asks |= {"Redis": _ask_redis, "migrations": _ask_migrations}
    return {name: _checks.setdefault(name, SingleFlight(name, ask)) for name, ask in asks.items()}


def _problem(name: str, question: SingleFlight[str], until: float) -> str:
    try:
        return question.answer(until)
    except NoAnswerError:
        return f"no answer within {PATIENCE:g} s"
    except Exception as error:
        logger.warning("not ready: %s: %s", name, error)
        return "no answer"


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
    """Return this release's migrations that the default database lacks. Raises the database's errors."""
    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    return [str(migration) for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())]
