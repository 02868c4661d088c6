"""The page of one command: its attempts, durations, waits, errors, jobs, options and recurring entries."""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from math import ceil
from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from jobs import conf, scheduler
from jobs.broker.times import DAY, HOUR
from jobs.dashboard import charts, deploys
from jobs.dashboard.figures import Figure, usually
from jobs.dashboard.format import clock
from jobs.dashboard.format import span as spelt
from jobs.dashboard.job import options_of
from jobs.dashboard.navigation import address
from jobs.dashboard.wrappers import Screen
from jobs.inspection import JobQuery, attempt_counts, digests, error_counts, everywhere, samples
from jobs.inspection.attempt_counts import Tally, together
from jobs.inspection.digests import Digest, Usual
from jobs.inspection.rows import Row
from jobs.inspection.search import Search, Term
from jobs.job import JobState
from jobs.limits.control import paused_commands
from jobs.record import registry

SPANS = {"hour": HOUR, "day": DAY, "3days": 3 * DAY, "2weeks": 14 * DAY}
PARTS = (0.5, 0.95, 0.99)
TICKS = 4  # of the narrow histogram
SHOWN = 10  # jobs, errors and entries in each table
LOOKED_AT = 500  # running jobs, and of those that ended, that are looked at


def command(request: HttpRequest, name: str) -> Screen:
    """The page of one command. Http404 if this release does not have it, and it has run at no time that is kept."""
    span = request.GET.get("span", "hour")
    span = span if span in SPANS else "hour"
    minutes = attempt_counts.of_command(name)
    series = [(start, together(of_queue.values())) for start, of_queue in minutes]
    hour = together(tally for _start, tally in series)
    this_hour = int(time.time()) // HOUR
    kept = digests.series("command", name, range(this_hour - SPANS["2weeks"] // HOUR, this_hour))
    is_known = name in registry.all_commands()
    if not is_known and not hour.attempts and not any(digest.attempts for _hour, digest in kept):
        raise Http404(
            _("Unknown command %(name)s: this release does not have it, and it has not run in two weeks.")
            % {"name": name}
        )
    by_hour = dict(kept)
    usual = digests.usual([by_hour.get(each, Digest()) for each in digests.usual_hours(time.time())])
    steps = _steps(span, series, kept)
    marks = deploys.marks([start for start, _attempts, _failed in steps])
    queues = sorted({queue for _start, of_queue in minutes for queue in of_queue} | ({_own_queue(name)} - {""}))
    ended = _ended(name)
    quantiles = _quantiles(hour, samples.waits([each for each in queues if each in conf.queues()], 60))
    return "command", {
        "title": name,
        "is_known": is_known,
        "is_paused": name in paused_commands(),
        "name": name,
        "span": span,
        "spans": list(SPANS),
        "hour": hour,
        "figures": _figures(request, name, series, usual, quantiles),
        "queues": queues,
        "quantiles": quantiles,
        "plot": charts.plot(
            _("Attempts over time; failed ones on top"),
            _bars(steps),
            marks=[(mark.at, mark.text) for mark in marks],
        ),
        "deploys": marks,
        "histogram": charts.plot(_("Attempts of the last hour by their duration"), _histogram(hour)),
        "durations": _durations(hour),
        "errors": [group for group in error_counts.recent() if _is_of(group, name)][:SHOWN],
        "running": list(islice(JobQuery(state=JobState.RUNNING, command=name).all(LOOKED_AT), SHOWN)),
        "slowest": sorted(ended, key=_seconds, reverse=True)[:SHOWN],
        "options": options_of(name),
        "entries": [entry for entry in scheduler.entries() if _runs(entry, name)][:SHOWN],
    }


def _own_queue(name: str) -> str:
    known: Any = registry.all_commands().get(name)
    return known.queue if known and known.queue in conf.queues() else ""


def _ended(name: str) -> list[tuple[Row, float]]:
    """Return the jobs that ended last, with the seconds that their last attempt took."""
    terms = (Term("command", name), Term("state", "finished"), Term("state", "dead"))
    rows = everywhere.find_all(Search(terms), LOOKED_AT).rows if "." in name else []
    return [
        (row, (row.ended_at - row.started_at).total_seconds())
        for row in rows
        if row.ended_at is not None and row.started_at is not None
    ]


def _seconds(each: tuple[Row, float]) -> float:
    return each[1]


def _figures(
    request: HttpRequest,
    name: str,
    minutes: Sequence[tuple[int, Tally]],
    usual: Usual,
    quantiles: Sequence[tuple[str, str, str]],
) -> Iterator[Figure]:
    hour = together(tally for _start, tally in minutes)
    yield Figure(
        _("Attempts in an hour"),
        f"{hour.attempts:,}",
        spark=charts.trend(_("Attempts by minute, last hour"), [tally.attempts for _start, tally in minutes]),
        usual=usually(usual, f"{usual.attempts:,.0f}"),
    )
    yield Figure(
        _("Failed"),
        f"{hour.failed:,}",
        url=f"{address(request, 'jobs_list', 'dead')}?{urlencode({'q': f'command:{name}'})}",
        spark=charts.trend(
            _("Failed attempts by minute, last hour"), [tally.failed for _start, tally in minutes], "bad"
        ),
        usual=usually(usual, f"{usual.attempts * usual.failed:,.0f}"),
    )
    known = {"p50": usual.p50, "p95": usual.p95}
    for part, run, wait in quantiles:
        yield Figure(
            _("%(part)s of the run time") % {"part": part},
            run,
            _("wait in the queue: %(wait)s") % {"wait": wait},
            usual=usually(usual, spelt(known[part])) if part in known else "",
        )


def _quantiles(hour: Tally, waits: Sequence[float]) -> list[tuple[str, str, str]]:
    """Return p50, p95 and p99 of the run times and of the waits, as texts."""
    ordered = sorted(waits)
    shown = []
    for part in PARTS:
        run = spelt(hour.quantile(part)) if hour.attempts else "-"
        wait = spelt(ordered[min(len(ordered) - 1, int(part * len(ordered)))]) if ordered else "-"
        shown.append((f"p{part * 100:.0f}", run, wait))
    return shown


def _steps(
    span: str, minutes: Sequence[tuple[int, Tally]], hours: Sequence[tuple[int, Digest]]
) -> list[tuple[int, int, int]]:
    """Return start, attempts and failures of each step: minutes of an hour, hours of up to three days, or days."""
    if span == "hour":
        return [(start, tally.attempts, tally.failed) for start, tally in minutes]
    if span == "2weeks":
        days: dict[int, Digest] = {}
        for hour, digest in hours:
            day = int(timezone.localtime(_moment(hour * HOUR)).replace(hour=0).timestamp())
            days[day] = days.get(day, Digest()) + digest
        return [(start, digest.attempts, digest.failed) for start, digest in days.items()]
    wanted = hours[-(SPANS[span] // HOUR) :]
    return [(hour * HOUR, digest.attempts, digest.failed) for hour, digest in wanted]


def _bars(steps: Sequence[tuple[int, int, int]]) -> list[charts.Bar]:
    text = _("%(at)s: %(well)s ended well, %(failed)s failed")
    bars = []
    for (start, attempts, failed), tick in zip(steps, charts.ticks([step[0] for step in steps]), strict=True):
        label = text % {"at": clock(start), "well": f"{attempts - failed:,}", "failed": f"{failed:,}"}
        bars.append(charts.Bar(label, [("ok", attempts - failed), ("failed", failed)], tick))
    return bars


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _durations(hour: Tally) -> list[tuple[str, int]]:
    """Return the attempts by their duration, each bucket by its upper end."""
    return [(spelt(2**bucket / 1e6), hour.buckets[bucket]) for bucket in sorted(hour.buckets)]


def _histogram(hour: Tally) -> list[charts.Bar]:
    if not hour.buckets:
        return []
    every = range(min(hour.buckets), max(hour.buckets) + 1)
    apart = ceil(len(every) / TICKS)
    text = _("under %(span)s: %(n)s")
    return [
        charts.Bar(
            text % {"span": spelt(2**bucket / 1e6), "n": f"{hour.buckets.get(bucket, 0):,}"},
            [("ok", hour.buckets.get(bucket, 0))],
            spelt(2**bucket / 1e6) if at % apart == 0 and at <= len(every) - apart / 2 else "",
        )
        for at, bucket in enumerate(every)
    ]


def _is_of(group: error_counts.ErrorGroup, name: str) -> bool:
    return group.command == name or name in group.commands


def _runs(entry: Any, name: str) -> bool:
    try:
        return bool(entry.job.command_name == name)
    except Exception:  # an unreadable entry is shown on its own page
        return False
