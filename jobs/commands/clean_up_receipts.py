"""Delete the receipts and cursors of jobs that Redis has forgotten."""

from datetime import timedelta

from django.db import connections, router

from jobs import conf
from jobs.client.options import database_of
from jobs.mandate import Mandate
from jobs.models import Cursor
from jobs.outbox import receipts
from jobs.record import registry


class CleanUpReceipts(Mandate):
    """
    Delete the receipts whose jobs Redis has forgotten a day ago, in each database of an atomic command, and the cursors
    of loops in each database that has their table. Returns their number. The recurring entry "clean up receipts", which
    comes with the package, runs it each hour.
    """

    queue = list(conf.queues())[-1]  # the lowest, whatever the project calls it
    timeout = 3_600
    retries = 3  # the next run does the same
    unique_for = timedelta(hours=2)

    def call(self) -> int:
        atomic = [command for command in registry.all_commands().values() if command.atomic]
        deleted = sum(receipts.clean_up(alias) for alias in sorted({database_of(command) for command in atomic}))
        for alias in connections:
            if router.allow_migrate_model(alias, Cursor) and _has_table(alias):
                deleted += receipts.clean_up(alias, "Cursor")
        return deleted


def _has_table(alias: str) -> bool:
    return Cursor._meta.db_table in connections[alias].introspection.table_names()
