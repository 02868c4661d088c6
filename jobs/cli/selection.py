"""Selection of jobs: by their ids, or by the dashboard's filters."""

import argparse
from collections.abc import Iterator
from itertools import islice
from typing import Any

from django.core.management.base import CommandError
from rq.job import Job

from jobs.cli.output import did_you_mean
from jobs.inspection import JobQuery, find, unsent
from jobs.inspection.rows import Row
from jobs.inspection.search import Search, SearchError, moment_of
from jobs.job import JobState
from jobs.record import registry

MOST = 100_000  # jobs that one call changes; call it again for more

FILTERS = ("q", "queue", "command", "error", "text", "since", "until", "order")


def add_filters(parser: argparse.ArgumentParser, *, limit: int | None) -> None:
    """Add the filters of the dashboard's lists, and --limit."""
    group = parser.add_argument_group("filters")
    group.add_argument(
        "--state", action="append", choices=[state.value for state in JobState], help="in this state; may be repeated"
    )
    group.add_argument(
        "--search",
        dest="q",
        metavar="SEARCH",
        help="that match this search, as on the dashboard: 'args.user:7 queue:low error:KeyError since:1h'",
    )
    group.add_argument("--queue", help="in this queue")
    group.add_argument("--command", help="of this command, such as users.SendWelcomeEmail")
    group.add_argument("--error", help="whose last error is of this class, such as SMTPException")
    group.add_argument("--text", help="with this text in arguments, reason or id")
    group.add_argument(
        "--since",
        type=_time,
        metavar="TIME",
        help="enqueued, due, started or ended at or after this time (ISO 8601, or 30m, 1h, today)",
    )
    group.add_argument(
        "--until",
        type=_time,
        metavar="TIME",
        help="enqueued, due, started or ended at or before this time (ISO 8601, or 30m, 1h, today)",
    )
    group.add_argument("--order", choices=["newest", "oldest"], help="which jobs come first")
    group.add_argument(
        "--limit", type=_count, default=limit, metavar="N", help=f"at most N jobs (default: {limit or 'all'})"
    )


def filtered(options: dict[str, Any]) -> Iterator[Row]:
    """Return the jobs that match the filters; without --state, jobs in all states."""
    given = {name: options[name] for name in FILTERS if options.get(name)} | {"q": _search(options)}
    states = dict.fromkeys(options["state"] or Search.of(given).states or unsent.states())
    if JobState.WAITING in states:
        states.pop(JobState.BLOCKED, None)  # blocked jobs are listed as waiting, too: list each job once
    queries = [JobQuery.of(state, given) for state in states]
    rows = (row for query in queries for row in query.all(MOST))
    return islice(rows, options["limit"])


def chosen(options: dict[str, Any]) -> list[tuple[str, Job | None]]:
    """
    Return the jobs to change, with their ids; None for an id without a record.

    CommandError if neither ids nor a state are given, or both.
    """
    by_filter = ["search" if name == "q" else name for name in ("state", *FILTERS, "limit") if options.get(name)]
    if options["ids"]:
        if by_filter:
            raise CommandError(f"Name jobs by their ids or by filters, not both: --{by_filter[0]} was given, too.")
        return [(job_id, find(job_id)) for job_id in options["ids"]]
    if not (options["state"] or Search.parse(_search(options)).states):
        raise CommandError("Which jobs? Give their ids, or filters with --state, such as --state dead.")
    return [(row.id, row.job) for row in islice(filtered(options), MOST)]


def why_none(options: dict[str, Any]) -> str:
    """Return why the filters match no job, if --command names no command of this release; else ""."""
    name, known = options["command"], registry.all_commands()
    return "" if name is None or name in known else f"No command is called {name!r}.{did_you_mean(name, known)}"


def _search(options: dict[str, Any]) -> str:
    return " ".join(filter(None, [options.get("q"), *options.get("terms", ())]))


def _time(text: str) -> str:
    try:
        moment_of(text)
    except SearchError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of jobs. It must be 1 or more.")
    return int(text)
