"""The databases, as this process reaches them."""

import time
from collections.abc import Iterator
from functools import partial

from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections

from jobs.doctor.finding import Finding, Severity, some
from jobs.health import unapplied_migrations
from jobs.inspection.single_flight import NoAnswerError, SingleFlight

PATIENCE = 3.0  # seconds within which they must answer

_flights: dict[str, SingleFlight[list[Finding]]] = {}


def findings() -> Iterator[Finding]:
    """Report databases that cannot be reached, and migrations that are not applied."""
    for alias in connections:
        _flights.setdefault(alias, SingleFlight(f"database {alias}", partial(_examine, alias))).start()
    until = time.monotonic() + PATIENCE
    for alias in connections:
        try:
            yield from _flights[alias].answer(until)
        except NoAnswerError:
            yield _unreachable(alias, f"no answer within {PATIENCE:g} s")


def _examine(alias: str) -> list[Finding]:
    try:
        connections[alias].ensure_connection()
    except DatabaseError as error:
        return [_unreachable(alias, str(error).strip().splitlines()[0])]
    if alias != DEFAULT_DB_ALIAS or not (missing := unapplied_migrations()):
        return []
    shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
    return [
        Finding(
            Severity.ERROR,
            f"{some(len(missing), 'migration is', 'migrations are')} not applied: {shown}.",
            "Jobs and pages fail on tables and columns that are not there.",
            "python manage.py migrate",
        )
    ]


def _unreachable(alias: str, why: str) -> Finding:
    return Finding(
        Severity.ERROR,
        f"The database {alias!r} cannot be reached: {why}",
        "Jobs that use it fail, and are retried.",
        "Start it, or correct DATABASE_URL.",
    )
