"""The problems as cards: a headline, since when, the cause, the last hour, and one main button."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from jobs import conf, runtime
from jobs.broker.times import MINUTE, moment
from jobs.dashboard import charts
from jobs.dashboard.format import percent
from jobs.dashboard.format import span as spelt
from jobs.dashboard.navigation import address
from jobs.inspection import error_counts, problems
from jobs.inspection.digests import UsualNow
from jobs.inspection.problems import Minutes, Problem, QueueFigures

MOST = 12  # cards


@dataclass(frozen=True, slots=True)
class Card:
    """A problem as the overview shows it. `pauses`: the queue that its main button pauses; else `url` is the button."""

    headline: str
    detail: str
    url: str
    text: str  # of the link
    since: datetime | None = None
    tone: str = "bad"
    spark: SafeString | str = ""
    pauses: str = ""
    pause_url: str = ""


def current(minutes: Minutes, queues: Sequence[Any], alive: Sequence[Any], usual: UsualNow) -> list[Problem]:
    """
    Return the problems now. `minutes`: the last hour by queue and command; `queues`: the rows of the overview; `alive`:
    the workers. One round trip.
    """
    now = runtime.now()
    errors = error_counts.by_command(problems.WINDOW * MINUTE)
    figures = [
        QueueFigures(
            name=row.name,
            length=row.length,
            wait=row.latency,
            target=conf.target(row.name),
            threads=sum(worker.threads for worker in alive if row.name in worker.queues),
            is_paused=row.paused,
        )
        for row in queues
    ]
    found = problems.of_commands(minutes, usual.commands, errors, now)
    return [*found, *problems.of_queues(figures, usual.queues, minutes)]


def cards(request: HttpRequest, found: Sequence[Problem], paused: Sequence[str] = ()) -> Iterator[Card]:
    """Yield the cards of the first problems."""
    for problem in found[:MOST]:
        yield _of_queue(request, problem) if problem.command == "" else _of_command(request, problem, paused)


def _of_command(request: HttpRequest, problem: Problem, paused: Sequence[str]) -> Card:
    since = moment(problem.since) if problem.since else None
    page = address(request, "jobs_command", problem.command)
    if problem.kind == "runtime":
        values = {"command": problem.command, "now": spelt(problem.now), "usual": spelt(problem.usual)}
        return Card(
            headline=_("%(command)s is slow: 95 %% take less than %(now)s, usually %(usual)s") % values,
            detail=_("at this hour, over the last %(n)s min") % {"n": problems.WINDOW},
            url=page,
            text=_("Show the command"),
            since=since,
            tone="warn",
            spark=charts.trend(_("95th percentile of the run time by minute, last hour"), problem.spark, "warn"),
        )
    is_retried = problem.kind == "retries"
    values = {
        "command": problem.command,
        "part": percent(problem.now),
        "all": f"{problem.attempts:,}",
        "minutes": f"{problems.WINDOW}",
    }
    headline = (
        _("%(command)s is retried: %(part)s of %(all)s attempts failed in the last %(minutes)s min")
        if is_retried
        else _("%(command)s fails: %(part)s of %(all)s attempts in the last %(minutes)s min")
    )
    query = urlencode({"q": f"command:{problem.command}"})
    return Card(
        headline=headline % values,
        detail="; ".join(filter(None, [_cause(problem), _usually(problem)])),
        url=f"{address(request, 'jobs_list', 'retrying' if is_retried else 'dead')}?{query}",
        text=_("Show the jobs"),
        since=since,
        tone="warn" if is_retried else "bad",
        spark=charts.trend(_("Failed attempts by minute, last hour"), problem.spark, "warn" if is_retried else "bad"),
        pauses=problem.queue if problem.queue in conf.queues() and problem.queue not in paused else "",
        pause_url=address(request, "jobs_queue_pause", problem.queue) if problem.queue in conf.queues() else "",
    )


def _of_queue(request: HttpRequest, problem: Problem) -> Card:
    values = {"queue": problem.queue, "now": spelt(problem.now), "n": f"{problem.count:,}"}
    values |= {"target": spelt(conf.target(problem.queue)), "part": percent(problem.part_above)}
    headline = _("%(queue)s is behind: its first job has waited %(now)s, the target is %(target)s")
    if problem.kind == "starved":
        headline = _("%(queue)s is starved: its first job has waited %(now)s, the target is %(target)s")
    reason = ngettext(
        "%(t)s thread, %(part)s of the last %(minutes)s min on queues above",
        "%(t)s threads, %(part)s of the last %(minutes)s min on queues above",
        problem.threads,
    ) % {"t": f"{problem.threads:,}", "part": values["part"], "minutes": problems.SHARED}
    waiting = ngettext("%(n)s job waits", "%(n)s jobs wait", problem.count) % values
    usual = _("usually %(usual)s at this hour") % {"usual": spelt(problem.usual)} if problem.usual else ""
    return Card(
        headline=headline % values,
        detail="; ".join(filter(None, [waiting, reason if problem.kind == "starved" else "", usual])),
        url=address(request, "jobs_queue", problem.queue),
        text=_("Show the queue"),
        tone="warn",
    )


def _cause(problem: Problem) -> str:
    name, part = problem.cause
    return _("%(part)s %(error)s") % {"part": percent(part), "error": name} if name else ""


def _usually(problem: Problem) -> str:
    if problem.usual is None:
        return ""
    return _("usually %(part)s fail at this hour") % {"part": percent(problem.usual)}


def as_dict(problem: Problem) -> dict[str, Any]:
    """Return a problem for JSON."""
    cause, part = problem.cause
    names = ("kind", "queue", "command", "now", "usual", "count", "attempts", "threads")
    shown = {name: getattr(problem, name) for name in names}
    shown |= {"since": moment(problem.since) if problem.since else None, "cause": cause, "cause_part": part}
    return shown | {"part_above": problem.part_above}
