"""The databases, as they are seen from here."""

from collections.abc import Iterator

from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections

from jobs.doctor.finding import Finding, Severity
from jobs.health import unapplied_migrations


def look() -> Iterator[Finding]:
    """Which cannot be reached, and whether migrations are missing."""
    for alias in connections:
        try:
            connections[alias].ensure_connection()
        except DatabaseError as error:
            yield Finding(
                Severity.ERROR,
                f"The database {alias!r} cannot be reached: {str(error).strip().splitlines()[0]}",
                "Jobs that use it fail, and are retried.",
                "Start it, or correct DATABASE_URL.",
            )
            continue
        if alias == DEFAULT_DB_ALIAS and (missing := unapplied_migrations()):
            shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            yield Finding(
                Severity.ERROR,
                f"{len(missing):,} migrations are not applied: {shown}.",
                "Jobs and pages fail on tables and columns that are not there.",
                "python manage.py migrate",
            )
