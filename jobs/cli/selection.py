"""Which jobs are meant: by their ids, or by the dashboard's filters."""

import argparse
from collections.abc import Iterator
from itertools import islice
from typing import Any

from django.core.management.base import CommandError
from django.utils.dateparse import parse_datetime
from rq.job import Job

from jobs.inspection import JobQuery, find
from jobs.inspection.rows import Row
from jobs.job import JobState

MOST = 100_000  # jobs that one call changes; the next one goes on

FILTERS = ("queue", "command", "error", "text", "since", "until", "order")


def add_filters(parser: argparse.ArgumentParser, *, limit: int | None) -> None:
    """The options of the dashboard's lists, and how many of what they find."""
    group = parser.add_argument_group("filters")
    group.add_argument(
        "--state", action="append", choices=[state.value for state in JobState], help="may be said several times"
    )
    group.add_argument("--queue", help="of this queue")
    group.add_argument("--command", help="of this command, such as users.SendWelcomeEmail")
    group.add_argument("--error", help="whose last error is of this class, such as SMTPException")
    group.add_argument("--text", help="with this text in arguments, reason or id")
    group.add_argument("--since", type=_time, metavar="TIME", help="enqueued, due, started or ended since; ISO")
    group.add_argument("--until", type=_time, metavar="TIME", help="likewise until")
    group.add_argument("--order", choices=["newest", "oldest"], help="which come first")
    group.add_argument(
        "--limit", type=_count, default=limit, metavar="N", help=f"so many at the most (default {limit or 'all'})"
    )


def filtered(options: dict[str, Any]) -> Iterator[Row]:
    """The jobs that the filters mean, in whatever state where none is named."""
    given = {name: options[name] for name in FILTERS if options.get(name)}
    states = dict.fromkeys(options["state"] or list(JobState))
    if JobState.WAITING in states:
        states.pop(JobState.BLOCKED, None)  # they wait, too: each job comes once
    queries = [JobQuery.of(state, given) for state in states]
    found = (row for query in queries for row in query.all(MOST))
    return islice(found, options["limit"])


def chosen(options: dict[str, Any]) -> list[tuple[str, Job | None]]:
    """
    The jobs that are to be changed, with their ids; None for an id of which there is no record.

    CommandError when neither ids nor a state say which, or both.
    """
    by_filter = [name for name in ("state", *FILTERS, "limit") if options.get(name)]
    if options["ids"]:
        if by_filter:
            raise CommandError(f"Name jobs by their ids or by filters, not both: --{by_filter[0]} was given, too.")
        return [(job_id, find(job_id)) for job_id in options["ids"]]
    if not options["state"]:
        raise CommandError("Which jobs? Give their ids, or filters with --state, such as --state dead.")
    return [(row.id, row.job) for row in islice(filtered(options), MOST)]


def _time(text: str) -> str:
    try:
        if parse_datetime(text):
            return text
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no time. Write it as 2026-01-31T12:00, or with a zone +02:00.")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of jobs. It must be 1 or more.")
    return int(text)
