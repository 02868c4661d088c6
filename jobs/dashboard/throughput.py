"""The overview's chart: attempts or run times over time, by outcome, by queue or by command."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from jobs.broker.times import HOUR
from jobs.dashboard import charts
from jobs.dashboard.commands import SPANS
from jobs.dashboard.format import span as spelt
from jobs.inspection import attempt_counts
from jobs.inspection.attempt_counts import Tally
from jobs.inspection.packed_counts import Row

MEASURES = ("attempts", "runtime")
BREAKDOWNS = ("outcome", "by_queue", "by_command")
SERIES = 5  # queues or commands with a colour of their own; the rest share one
TICKS = 6  # times along the axis

Steps = Sequence[tuple[int, Tally]]


Read = Sequence[tuple[int, list[Row]]]


def needs_rows(request: HttpRequest) -> bool:
    """Return whether the chart that the address asks for is drawn from queues, commands or run times."""
    return _asked(request) != ("attempts", "outcome")


def _asked(request: HttpRequest) -> tuple[str, str]:
    measure, by = request.GET.get("show", ""), request.GET.get("by", "")
    return measure if measure in MEASURES else "attempts", by if by in BREAKDOWNS else "outcome"


def chart(request: HttpRequest, span: str, steps: Steps, rows: Read) -> dict[str, Any]:
    """
    Return the chart that the address asks for (`show`, `by`), its title, its key and its switches. `steps`: the counts
    of the span; `rows`: the same from `attempt_counts.rows_by_time`, if `needs_rows`.
    """
    measure, by = _asked(request)
    minute = _("per minute") if SPANS[span][1] < HOUR else _("per hour")
    key: _Key = []
    if measure == "runtime":
        drawn, title = _run_times(rows), _("Run time, 95th percentile")
        plot = charts.plot(title, drawn, unit=" s")
    else:
        title = _("Attempts %(span)s") % {"span": minute}
        drawn, key = _by_outcome(steps) if by == "outcome" else _by_name(_named(by, rows))
        plot = charts.plot(title, drawn)
    return {
        "plot": plot,
        "title": title,
        "key": key,
        "measures": MEASURES,
        "measure": measure,
        "breakdowns": BREAKDOWNS if measure == "attempts" else (),
        "by": by,
    }


_Key = list[tuple[str, str, str]]  # CSS class, name and number of each series


def _by_outcome(steps: Steps) -> tuple[list[charts.Bar], _Key]:
    text = _("%(at)s: %(well)s ended well, %(failed)s failed")
    bars, well, failed = [], 0, 0
    for (start, tally), tick in zip(steps, _ticks([start for start, _tally in steps]), strict=True):
        fine = tally.attempts - tally.failed
        label = text % {"at": _clock(start), "well": f"{fine:,}", "failed": f"{tally.failed:,}"}
        bars.append(charts.Bar(label, [("ok", fine), ("failed", tally.failed)], tick))
        well, failed = well + fine, failed + tally.failed
    return bars, [("ok", _("ended well"), f"{well:,}"), ("failed", _("failed"), f"{failed:,}")]


_Named = Sequence[tuple[int, Mapping[str, int]]]  # start of each step, and the attempts by name


def _named(by: str, rows: Read) -> _Named:
    if by == "by_command":
        steps = attempt_counts.of_commands(rows)
        return [(start, _sum((command, tally) for (_queue, command), tally in of.items())) for start, of in steps]
    return [(start, _sum(of_step.items())) for start, of_step in attempt_counts.of_queues(rows)]


def _sum(tallies: Iterable[tuple[str, Tally]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for name, tally in tallies:
        total[name] += tally.attempts
    return total


def _by_name(steps: _Named) -> tuple[list[charts.Bar], _Key]:
    total: Counter[str] = Counter()
    for _start, of_step in steps:
        total.update(of_step)
    names = [name for name, _number in total.most_common(SERIES)]
    bars = []
    for (start, of_step), tick in zip(steps, _ticks([start for start, _of_step in steps]), strict=True):
        parts = [(f"series-{at}", of_step.get(name, 0)) for at, name in enumerate(names)]
        parts.append((f"series-{SERIES}", sum(of_step.values()) - sum(number for _kind, number in parts)))
        told = ", ".join(f"{name} {of_step.get(name, 0):,}" for name in names if of_step.get(name))
        bars.append(charts.Bar(f"{_clock(start)}: {told or '0'}", parts, tick))
    key = [(f"series-{at}", name, f"{total[name]:,}") for at, name in enumerate(names)]
    if (rest := total.total() - sum(total[name] for name in names)) > 0:
        key.append((f"series-{SERIES}", _("others"), f"{rest:,}"))
    return bars, key


def _run_times(rows: Read) -> list[charts.Bar]:
    steps = attempt_counts.of_commands(rows)
    ticks = _ticks([start for start, _of_step in steps])
    bars = []
    for (start, of_step), tick in zip(steps, ticks, strict=True):
        longest = attempt_counts.together(of_step.values()).quantile(0.95)
        label = _("%(at)s: 95 %% took less than %(span)s") % {"at": _clock(start), "span": spelt(longest)}
        bars.append(charts.Bar(label, [("series-0", longest)], tick))
    return bars


def _ticks(starts: Sequence[int]) -> list[str]:
    """Return the text below each step, mostly none."""
    every = max(1, len(starts) // TICKS)
    form = "H:i" if not starts or starts[-1] - starts[0] <= 24 * HOUR else "d M H:i"
    return [
        _clock(start, form) if at % every == 0 and at <= len(starts) - every / 2 else ""
        for at, start in enumerate(starts)
    ]


def _clock(start: int, form: str = "d M H:i") -> str:
    return date_format(timezone.localtime(datetime.fromtimestamp(start, UTC)), form)
