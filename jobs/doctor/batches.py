"""The batches: those that nobody will seal."""

import time
from collections.abc import Iterator

from jobs.batches import rows
from jobs.broker.times import HOUR
from jobs.doctor.finding import Finding, Severity, first_of, manage, some

LOOKED_AT = 500  # batches, the newest


def findings() -> Iterator[Finding]:
    """Report batches that have been open for an hour: their creator has died, or still adds jobs."""
    held = rows.held_for(rows.listed(0, LOOKED_AT), HOUR, time.time())
    if held:
        yield Finding(
            Severity.WARNING,
            f"{some(len(held), 'batch has', 'batches have')} been open for an hour or more: "
            f"{first_of([row.name or row.id for row in held])}.",
            "The process that adds the jobs has died, or is not through yet; no callback runs before.",
            f"{manage('jobs', 'batches', 'cancel', held[0].id)}; or with seal, if all of its jobs are there.",
        )
