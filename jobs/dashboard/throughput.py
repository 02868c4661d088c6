"""The overview's chart: attempts by outcome, queue or command, waits, or run times, over time, with the deploys."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from jobs.broker.times import HOUR
from jobs.dashboard import charts, deploys
from jobs.dashboard.commands import SPANS
from jobs.dashboard.format import clock
from jobs.dashboard.format import span as spelt
from jobs.inspection import attempt_counts, digests
from jobs.inspection.attempt_counts import Tally
from jobs.inspection.packed_counts import Rows
from jobs.inspection.samples import Minute

MEASURES = ("attempts", "wait", "runtime")
BREAKDOWNS = ("outcome", "by_queue", "by_command")
SERIES = 5  # queues or commands with a colour of their own; the rest share one

Steps = Sequence[tuple[int, Tally]]


Read = Sequence[tuple[int, Rows]]


def needs_rows(request: HttpRequest) -> bool:
    """Return whether the chart that the address asks for is drawn from queues, commands or run times."""
    measure, by = _asked(request)
    return measure == "runtime" or (measure == "attempts" and by != "outcome")


def _asked(request: HttpRequest) -> tuple[str, str]:
    measure, by = request.GET.get("show", ""), request.GET.get("by", "")
    return measure if measure in MEASURES else "attempts", by if by in BREAKDOWNS else "outcome"


def chart(request: HttpRequest, span: str, steps: Steps, rows: Read, sampled: Sequence[Minute]) -> dict[str, Any]:
    """
    Return the chart that the address asks for (`show`, `by`), its title, its key, its deploys, its switches, and the
    texts of its steps by their start if the table does not have them. `steps`: the counts of the span; `rows`: the same
    from `attempt_counts.rows_by_time`, if `needs_rows`; `sampled`: the samples of the last hour.
    """
    measure, by = _asked(request)
    minute = _("per minute") if SPANS[span][1] < HOUR else _("per hour")
    starts = [start for start, _tally in steps]
    deployed = deploys.marks(starts)
    marks = [(mark.at, mark.text) for mark in deployed]
    key: _Key = []
    texts: dict[int, str] = {}
    if measure == "attempts":
        title = _("Attempts %(span)s") % {"span": minute}
        drawn, key = _by_outcome(steps) if by == "outcome" else _by_name(_named(by, rows))
        plot = charts.plot(title, drawn, marks=marks)
    else:
        title = _("Run time, 95th percentile") if measure == "runtime" else _("Longest wait of a first job")
        seconds, texts = _run_times(rows) if measure == "runtime" else _waits(starts, sampled)
        plot = charts.plot(title, _lengths(starts, seconds, texts), unit=" s", marks=marks)
    return {
        "plot": plot,
        "title": title,
        "key": key,
        "texts": texts,
        "deploys": deployed,
        "measures": MEASURES,
        "measure": measure,
        "breakdowns": BREAKDOWNS if measure == "attempts" else (),
        "by": by,
    }


def numbers(steps: Steps, title: str, texts: Mapping[int, str]) -> SafeString:
    """
    Return the counts of the steps as a table, the latest first, with the chart's `texts` below its `title`. It is made
    here because a template's loop over so many cells is slow.
    """
    columns = [_("Processed"), _("Failed")]
    head = format_html_join("", '<th scope="col" class="jobs-number">{}</th>', ((each,) for each in columns))
    body = format_html_join(
        "",
        '<tr><th scope="row">{}</th><td class="jobs-number">{}</td><td class="jobs-number">{}</td>{}</tr>',
        (
            (clock(at), f"{tally.attempts:,}", f"{tally.failed:,}", _cell(texts.get(at, "")) if texts else "")
            for at, tally in reversed(steps)
        ),
    )
    return format_html(
        '<table class="jobs-table"><thead><tr><th scope="col">{}</th>{}{}</tr></thead><tbody>{}</tbody></table>',
        *(_("From"), head, format_html('<th scope="col">{}</th>', title) if texts else "", body),
    )


def _cell(text: str) -> SafeString:
    return format_html("<td>{}</td>", text)


_Key = list[tuple[str, str, str]]  # CSS class, name and number of each series


def _by_outcome(steps: Steps) -> tuple[list[charts.Bar], _Key]:
    text = _("%(at)s: %(well)s ended well, %(failed)s failed")
    bars, well, failed = [], 0, 0
    for (start, tally), tick in zip(steps, charts.ticks([start for start, _tally in steps]), strict=True):
        fine = tally.attempts - tally.failed
        label = text % {"at": clock(start), "well": f"{fine:,}", "failed": f"{tally.failed:,}"}
        bars.append(charts.Bar(label, [("ok", fine), ("failed", tally.failed)], tick))
        well, failed = well + fine, failed + tally.failed
    return bars, [("ok", _("ended well"), f"{well:,}"), ("failed", _("failed"), f"{failed:,}")]


_Named = Sequence[tuple[int, Mapping[str, int]]]  # start of each step, and the attempts by name


def _named(by: str, rows: Read) -> _Named:
    if by == "by_queue":
        steps = attempt_counts.of_queues(rows)
        return [(start, {name: tally.attempts for name, tally in of_step.items()}) for start, of_step in steps]
    named = []
    for start, of_step in rows:
        attempts: Counter[str] = Counter()
        for (_queue, command), runs in of_step.runs:
            attempts[command] += runs.attempts
        named.append((start, attempts))
    return named


def _by_name(steps: _Named) -> tuple[list[charts.Bar], _Key]:
    total: Counter[str] = Counter()
    for _start, of_step in steps:
        total.update(of_step)
    names = [name for name, _number in total.most_common(SERIES)]
    bars = []
    for (start, of_step), tick in zip(steps, charts.ticks([start for start, _of_step in steps]), strict=True):
        parts = [(f"series-{at}", of_step.get(name, 0)) for at, name in enumerate(names)]
        parts.append((f"series-{SERIES}", sum(of_step.values()) - sum(number for _kind, number in parts)))
        text = ", ".join(f"{name} {of_step.get(name, 0):,}" for name in names if of_step.get(name))
        bars.append(charts.Bar(f"{clock(start)}: {text or '0'}", parts, tick))
    key = [(f"series-{at}", name, f"{total[name]:,}") for at, name in enumerate(names)]
    if (rest := total.total() - sum(total[name] for name in names)) > 0:
        key.append((f"series-{SERIES}", _("others"), f"{rest:,}"))
    return bars, key


_Lengths = tuple[dict[int, float], dict[int, str]]  # seconds by the start of each step, and the same as text


def _run_times(rows: Read) -> _Lengths:
    steps = attempt_counts.of_queues(rows)
    seconds = {start: attempt_counts.together(of_step.values()).quantile(0.95) for start, of_step in steps}
    text = _("95 %% took less than %(span)s")
    return seconds, {start: text % {"span": spelt(longest)} for start, longest in seconds.items()}


def _waits(starts: Sequence[int], sampled: Sequence[Minute]) -> _Lengths:
    """Return the longest waits: of minutes by their samples, of hours by their digests, and the hour's samples."""
    waits = {minute.start: minute.longest for minute in sampled}
    if len(starts) > 1 and starts[1] - starts[0] == HOUR:
        now = max((wait for start, wait in waits.items() if start >= starts[-1]), default=(0.0, ""))
        of_hours = digests.waits([start // HOUR for start in starts[:-1]])
        waits = {hour * HOUR: wait for hour, wait in of_hours.items()} | {starts[-1]: now}
    text = _("%(span)s in %(queue)s")
    texts = {start: text % {"span": spelt(wait), "queue": queue} for start, (wait, queue) in waits.items() if wait}
    return {start: wait for start, (wait, _queue) in waits.items()}, texts


def _lengths(starts: Sequence[int], seconds: Mapping[int, float], texts: Mapping[int, str]) -> list[charts.Bar]:
    return [
        charts.Bar(f"{clock(start)}: {texts.get(start, '0')}", [("series-0", seconds.get(start, 0.0))], tick)
        for start, tick in zip(starts, charts.ticks(starts), strict=True)
    ]
