"""The recurring entries: whether their runs are enqueued, and how they end."""

from collections.abc import Iterator

from jobs import scheduler
from jobs.broker.connections import servers
from jobs.doctor.finding import Finding, Severity
from jobs.errors import ScheduleError
from jobs.recurring.lists import differences
from jobs.scheduler import Scheduler

LATE = 10.0  # seconds after which an overdue entry is a finding
SAME_END = 3  # dead runs in a row that are a finding


def findings() -> Iterator[Finding]:
    """Report a missing lease, late entries, a list that is not followed, and entries whose runs die."""
    entries = [entry for entry in scheduler.entries() if not entry.paused]
    if entries and not any(client.exists(Scheduler.scheduler_lock_key) for client in servers()):
        yield Finding(
            Severity.ERROR,
            f"Nobody schedules: there are {len(entries):,} recurring entries, and no process holds the lease.",
            "Their runs are missed.",
            "Start a worker, or python manage.py rqscheduler.",
        )
    lag = scheduler.lag()
    if entries and lag > LATE:
        yield Finding(
            Severity.ERROR,
            f"The most overdue recurring entry is {lag:.0f} s late.",
            "Runs are missed.",
            "Look for errors in the logs of the workers, or of rqscheduler.",
        )
    if far := [entry for entry in entries if entry.is_too_far]:
        yield Finding(
            Severity.ERROR,
            "Recurring entries are due much later than their times allow: "
            f"{', '.join(f'{entry.name!r} ({entry.next_at:%Y-%m-%d %H:%M} UTC)' for entry in far[:5])}.",
            "They do not run until then. A clock was ahead when that time was written.",
            "Start a worker anew: it gives them their next time.",
        )
    yield from _differences()
    histories = scheduler.histories(entries, 5)
    for entry in entries:
        runs = [run.outcome for run in histories[entry.id] if run.what == "run"]
        ended = [outcome for outcome in runs if outcome not in ("", "unfinished")]
        if len(ended) >= SAME_END and set(ended) == {"dead"}:
            yield Finding(
                Severity.WARNING,
                f"The last {len(ended)} runs of the recurring entry {entry.name!r} died.",
                "What it is for is not done.",
                "Its runs, with their errors, are on the dashboard's page Recurring.",
            )


def _differences() -> Iterator[Finding]:
    try:
        found = differences()
    except ScheduleError:  # the system checks report it
        return
    if found:
        named = "; ".join(f"{how}: {', '.join(map(repr, names))}" for how, names in found.items())
        yield Finding(
            Severity.WARNING,
            f'The recurring entries in Redis are not those of JOBS["SCHEDULE"]. {named}.',
            "A worker of another release runs, or none of this release has started.",
            "Replace the workers of other releases, and start one of this release.",
        )
