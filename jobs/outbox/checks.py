"""The system checks of the outbox."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured

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
