"""The page of the commands: outcomes of their attempts, durations, and a chart over time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from jobs.broker.times import DAY, HOUR, MINUTE
from jobs.dashboard import charts
from jobs.dashboard.paging import has, part
from jobs.dashboard.wrappers import Screen
from jobs.inspection import attempt_counts, packed_counts
from jobs.inspection.attempt_counts import Tally
from jobs.inspection.packed_counts import Runs

SPANS = {"hour": (HOUR, MINUTE), "day": (DAY, HOUR), "3days": (3 * DAY, HOUR)}
SIZE = 50  # commands a page


@dataclass(frozen=True, slots=True)
class CommandRow:
    """A command in a queue: the outcomes of its attempts, and their durations."""

    command: str
    queue: str
    tally: Tally
    p50: float
    p95: float
    p99: float
    starts: Sequence[int]  # of the steps, in seconds since the epoch
    over_time: Sequence[Runs]

    @property
    def chart(self) -> SafeString:
        """The sparkline of its attempts; drawn only for rows that are shown."""
        most = max(range(len(self.over_time)), key=lambda at: self.over_time[at].attempts)
        runs = self.over_time[most].attempts
        title = ngettext(
            "%(command)s over time: at most %(n)s run, at %(at)s",
            "%(command)s over time: at most %(n)s runs, at %(at)s",
            runs,
        ) % {"command": self.command, "n": f"{runs:,}", "at": _clock(self.starts[most])}
        tone = "bad" if self.tally.failed * 20 >= self.tally.attempts else ""  # 5 %
        return charts.trend(title, [each.attempts for each in self.over_time], tone)


def _clock(start: int) -> str:
    return date_format(timezone.localtime(datetime.fromtimestamp(start, UTC)), "d M H:i")


SORTS: dict[str, Callable[[CommandRow], float]] = {
    "time": lambda row: row.tally.seconds,
    "slowest": lambda row: row.p95,
    "failures": lambda row: row.tally.failed,
    "runs": lambda row: row.tally.attempts,
}


def commands(request: HttpRequest) -> Screen:
    """Runs, failures and durations of each command; sorted by total time, p95, failures or runs, highest first."""
    span, sort = request.GET.get("span", "hour"), request.GET.get("sort", "time")
    span, sort = span if span in SPANS else "hour", sort if sort in SORTS else "time"
    rows, starts = by_command(span, sort)
    text = request.GET.get("text", "").strip()
    shown = part(request, [row for row in rows if has(text, (row.command, row.queue))], SIZE)
    return "commands", {
        "title": _("Commands"),
        "span": span,
        "spans": list(SPANS),
        "sort": sort,
        "sorts": list(SORTS),
        "rows": shown.object_list,
        "part": shown,
        "text": text,
        "kept": {"span": span, "sort": sort},
        "count": shown.paginator.count,
        "numbers": _numbers(list(shown.object_list), starts),
    }


def _numbers(commands: Sequence[CommandRow], starts: Sequence[int]) -> SafeString | str:
    """
    Return the numbers of the sparklines as a table: one row for each command, one column for each step with attempts.

    It is made here because a template's loop over thousands of cells takes ten times as long.
    """
    shown = [at for at in range(len(starts)) if any(row.over_time[at].attempts for row in commands)]
    if not shown:
        return ""
    head = format_html_join("", '<th scope="col" class="jobs-nowrap">{}</th>', ((_clock(starts[at]),) for at in shown))
    cells = [
        (row.command, row.queue, mark_safe("".join(_cell(row.over_time[at]) for at in shown)))  # noqa: S308 - numbers
        for row in commands
    ]
    rows = format_html_join("", '<tr><th scope="row">{} <small>{}</small></th>{}</tr>', cells)
    return format_html(
        '<table><thead><tr><th scope="col">{}</th>{}</tr></thead><tbody>{}</tbody></table>',
        *(_("Command"), head, rows),
    )


def _cell(tally: Runs) -> str:
    return f"<td>{tally.attempts:,} ({tally.failed:,})</td>" if tally.failed else f"<td>{tally.attempts:,}</td>"


def by_command(span: str, sort: str) -> tuple[list[CommandRow], list[int]]:
    """Return the rows, sorted by `sort`, and the start of each time step of their charts."""
    steps = attempt_counts.rows_by_time(*SPANS[span])
    over_time: dict[attempt_counts.Labels, list[Runs]] = {}
    for at, (_start, of_step) in enumerate(steps):
        for labels, runs in of_step.runs:
            if labels not in over_time:
                over_time[labels] = [Runs()] * len(steps)
            over_time[labels][at] = runs
    starts = [start for start, _of_step in steps]
    rows = [
        _row(queue, command, starts, _tally(outcomes, buckets), over_time[queue, command])
        for queue, command, outcomes, buckets in packed_counts.merged(of_step for _start, of_step in steps)
    ]
    return sorted(rows, key=SORTS[sort], reverse=True), starts


def _tally(outcomes: Mapping[str, int], buckets: Sequence[int]) -> Tally:
    tally = Tally()
    tally.add_all(outcomes, buckets)
    return tally


def _row(queue: str, command: str, starts: Sequence[int], tally: Tally, steps: Sequence[Runs]) -> CommandRow:
    p50, p95, p99 = (tally.quantile(part) for part in (0.5, 0.95, 0.99))
    return CommandRow(command, queue, tally, p50, p95, p99, starts, steps)
