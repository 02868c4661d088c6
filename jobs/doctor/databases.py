"""The databases, as this process reaches them, and the receipts in them."""

import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial

from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.utils import timezone

from jobs.client.options import database_of
from jobs.doctor.finding import Finding, Severity, manage, some
from jobs.health import unapplied_migrations
from jobs.inspection.single_flight import NoAnswerError, SingleFlight
from jobs.models import Receipt
from jobs.record import registry
from jobs.recurring.entry import CLEANER

OVERDUE = timedelta(days=3)  # a day until Redis has forgotten a cancelled job, a day more, and one for the clean-up
LOOKED_AT = 1_000  # receipts of a database
PATIENCE = 3.0  # seconds within which they must answer

_flights: dict[str, SingleFlight[list[Finding]]] = {}


def findings() -> Iterator[Finding]:
    """Report databases that cannot be reached, migrations that are not applied, and receipts that nobody deletes."""
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
    missing = unapplied_migrations() if alias == DEFAULT_DB_ALIAS else []
    return [_unapplied(missing)] if missing else list(_receipts(alias))


def _unapplied(missing: list[str]) -> Finding:
    shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
    return Finding(
        Severity.ERROR,
        f"{some(len(missing), 'migration is', 'migrations are')} not applied: {shown}.",
        "Jobs and pages fail on tables and columns that are not there.",
        "python manage.py migrate",
    )


def _receipts(alias: str) -> Iterator[Finding]:
    atomic = [command for command in registry.all_commands().values() if command.atomic]
    kept = [command.result_ttl for command in atomic if database_of(command) == alias]
    if not kept:
        return
    before = timezone.now() - timedelta(seconds=max(kept)) - OVERDUE
    try:  # a sample, since keys are random: a table of millions would take longer than PATIENCE
        written = list(Receipt.objects.using(alias).order_by("pk").values_list("created_at", flat=True)[:LOOKED_AT])
    except DatabaseError as error:
        yield Finding(
            Severity.ERROR,
            f"The receipts in the database {alias!r} cannot be read: {str(error).strip().splitlines()[0]}",
            "Atomic commands on that database fail, and are retried.",
            manage("migrate", "jobs", "--database", alias),
        )
        return
    if old := sum(each < before for each in written):
        yield Finding(
            Severity.WARNING,
            f"Of {some(len(written), 'receipt', 'receipts')} looked at in the database {alias!r}, {old:,} should be "
            f"deleted by now: their jobs ended over {OVERDUE.days} days ago.",
            "The table grows. Only jobs that have not ended, or are kept as dead, need theirs.",
            f"{manage('jobs', 'run', CLEANER)}; see if its entry is paused, or JOBS['CLEAN_UP'] is off.",
        )


def _unreachable(alias: str, why: str) -> Finding:
    return Finding(
        Severity.ERROR,
        f"The database {alias!r} cannot be reached: {why}",
        "Jobs that use it fail, and are retried.",
        "Start it, or correct DATABASE_URL.",
    )
