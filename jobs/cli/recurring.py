"""`jobs recurring`: list the recurring entries, and pause, resume and run them."""

from typing import Any

from django.core.management.base import CommandError

from jobs import scheduler
from jobs.cli import DONE
from jobs.cli.output import Output, did_you_mean
from jobs.dashboard.format import span
from jobs.errors import ScheduleError
from jobs.recurring.runs import Run
from jobs.recurring.store import StoredEntry
from jobs.retries import seconds_of

COLUMNS = ("name", "times", "next", "last run", "queue", "call")
CHANGES = ("pause", "resume", "run")


def recurring(output: Output, options: dict[str, Any]) -> int:
    """List entries, or change those that are named."""
    entries = _named(options["names"])
    if options["change"] == "list":
        return _list(output, entries, header=options["header"])
    if not options["names"]:
        raise CommandError(f"Which entries? Name them: jobs recurring {options['change']} NAME ...")
    return _run(output, entries) if options["change"] == "run" else _pause(output, entries, options["change"])


def _named(names: list[str]) -> list[StoredEntry]:
    """Return the entries of these names, without names all. ScheduleError for an unknown one: nothing is changed."""
    entries = {entry.name: entry for entry in scheduler.entries()}
    for name in names:
        if name not in entries:
            raise ScheduleError(f"There is no recurring entry {name!r}.{did_you_mean(name, entries)}")
    return [entries[name] for name in names or entries]


def _list(output: Output, entries: list[StoredEntry], *, header: bool) -> int:
    histories = scheduler.histories(entries)
    lasts = [next((run for run in histories[entry.id] if run.what == "run"), None) for entry in entries]
    if output.as_json:
        output.json({"entries": [_fields(entry, last) for entry, last in zip(entries, lasts, strict=True)]})
    else:
        rows = (_row(entry, last) for entry, last in zip(entries, lasts, strict=True))
        output.table(COLUMNS, rows, header=header)
    return DONE


def _fields(entry: StoredEntry, last: Run | None) -> dict[str, Any]:
    given = entry.entry
    return {
        "name": entry.name,
        "call": entry.description,
        "queue": entry.queue,
        "cron": given.cron,
        "timezone": given.timezone,
        "every_seconds": None if given.every is None else seconds_of(given.every),
        "paused": entry.paused,
        "next_at": entry.next_at,
        "last_run": {"at": last.at, "job": last.job_id, "outcome": last.outcome} if last else None,
    }


def _row(entry: StoredEntry, last: Run | None) -> tuple[Any, ...]:
    given = entry.entry
    times = f"every {span(seconds_of(given.every))}" if given.every is not None else given.cron
    next_at = "paused" if entry.paused else entry.next_at
    return entry.name, times, next_at, last.outcome if last else "none", entry.queue, entry.description


def _pause(output: Output, entries: list[StoredEntry], change: str) -> int:
    for entry in entries:
        scheduler.pause(entry.name) if change == "pause" else scheduler.resume(entry.name)
    if output.as_json:
        output.json({"entries": [{"name": entry.name, "paused": change == "pause"} for entry in entries]})
    else:
        for entry in entries:
            output.say(f"The recurring entry {entry.name!r} {'is paused' if change == 'pause' else 'was resumed'}.")
    return DONE


def _run(output: Output, entries: list[StoredEntry]) -> int:
    jobs = {entry.name: scheduler.run_now(entry.name) for entry in entries}
    if output.as_json:
        output.json({"entries": [{"name": name, "job": job_id} for name, job_id in jobs.items()]})
    else:
        for name, job_id in jobs.items():
            output.say(f"The recurring entry {name!r} runs as job {job_id}.")
    return DONE
