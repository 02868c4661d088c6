"""The system checks of the outbox."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections

from jobs import conf
from jobs.outbox import rows
from jobs.record import registry


def check_outbox(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """
    jobs.E015: JOBS["OUTBOX"] names no database, or commands are durable without it. jobs.E016: JOBS["OUTBOX_KEEP"] is
    neither None nor "ended".
    """
    messages: list[CheckMessage] = []
    if conf.get("OUTBOX_KEEP") not in (None, "ended"):
        messages.append(
            Error(
                f"JOBS['OUTBOX_KEEP'] is {conf.get('OUTBOX_KEEP')!r}.",
                hint='Give "ended", to keep rows until their jobs have ended, or None, until Redis has the jobs.',
                id="jobs.E016",
            )
        )
    durable = [name for name, command in registry.all_commands().items() if command.durable]
    if rows.is_on() or durable or conf.get("DURABLE") or conf.get("OUTBOX_KEEP"):
        try:
            rows.alias()
        except ImproperlyConfigured as error:
            who = f"{durable[0]} is durable. " if durable else ""
            hint = f"{who}Name the alias in DATABASES whose transactions defer your jobs."
            messages.append(Error(str(error), hint=hint, id="jobs.E015"))
    return messages


def check_outbox_table(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """jobs.E017, of `check --database`: the outbox's database lacks the table of unsent jobs."""
    using = conf.get("OUTBOX")
    if using is None or using not in (kwargs.get("databases") or ()):
        return []
    try:
        if "jobs_unsent" in connections[using].introspection.table_names():
            return []
    except DatabaseError:  # one that is away is not reported: checks run at build time, too
        return []
    return [
        Error(
            f"The database {using!r} has no table jobs_unsent, so no durable job can be deferred.",
            hint=f"python manage.py migrate jobs --database {using}",
            id="jobs.E017",
        )
    ]
