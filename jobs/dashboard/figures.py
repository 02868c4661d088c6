"""The overview's large numbers, and the lines of its table of queues: their colours, and what is drawn beside them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from jobs import conf
from jobs.dashboard import charts
from jobs.dashboard.format import span as spelt
from jobs.dashboard.navigation import address
from jobs.dashboard.now import Now, QueueRow
from jobs.inspection import attempt_counts
from jobs.inspection.attempt_counts import ByMinute, Tally
from jobs.job import JobState

UNFOLDED = 12  # queues up to which idle ones are shown like the others
FAILING = 5  # percent of the last minutes' attempts from which failures are marked


@dataclass(frozen=True, slots=True)
class Figure:
    """One of the large numbers at the top; `tone` colours it: warn or bad."""

    label: str
    value: str
    note: str = ""
    url: str = ""
    tone: str = ""
    spark: SafeString | str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A queue as the table shows it: its figures, and its attempts of the last minutes."""

    row: QueueRow
    recent: Tally

    @property
    def failing(self) -> float:
        """Percent of the last minutes' attempts that failed."""
        return 100 * self.recent.failed / self.recent.attempts if self.recent.attempts else 0.0

    @property
    def target(self) -> float:
        return conf.target(self.row.name)

    @property
    def tone(self) -> str:
        """The colour of its dot: amber for a queue that is late, paused or without workers, red for one that fails."""
        if self.failing >= FAILING:
            return "is-bad"
        is_late = self.row.paused or not self.row.workers or self.row.latency > self.target
        return "is-warn" if is_late else "is-good"

    @property
    def meter(self) -> SafeString:
        text = _("%(queue)s: %(latency)s of %(target)s")
        values = {"queue": self.row.name, "latency": spelt(self.row.latency), "target": spelt(self.target)}
        return charts.meter(text % values, self.row.latency, self.target)

    @property
    def is_idle(self) -> bool:
        row = self.row
        return not (row.length or row.running or row.paused or self.recent.attempts)


def figures(request: HttpRequest, now: Now, hour: ByMinute, recent: Mapping[str, Tally], pace: int) -> Iterator[Figure]:
    """
    Yield the five large numbers, with their course over the last hour where the counts have it. `recent`: the attempts
    of the last `pace` minutes by queue.
    """
    minutes = [attempt_counts.together(of_step.values()) for _start, of_step in hour]
    lately, dead = attempt_counts.together(recent.values()), now.counts[JobState.DEAD]
    finished = [minute.outcomes["finished"] for minute in minutes]
    text = _("%(n)s in the last hour")
    yield Figure(
        _("Finished per minute"),
        f"{lately.outcomes['finished'] / pace:,.0f}",
        text % {"n": f"{sum(finished):,}"},
        address(request, "jobs_list", "finished"),
        spark=charts.trend(_("Finished jobs by minute, last hour"), finished),
    )
    failed = [minute.failed for minute in minutes]
    part = 100 * lately.failed / lately.attempts if lately.attempts else 0.0
    tone = "bad" if part >= FAILING else ""
    yield Figure(
        _("Failing"),
        f"{part:.0f} %" if part >= 10 or not part else f"{part:.1f} %",
        text % {"n": f"{sum(failed):,}"},
        address(request, "jobs_list", "retrying" if lately.outcomes["retried"] > lately.outcomes["dead"] else "dead"),
        tone,
        charts.trend(_("Failed attempts by minute, last hour"), failed, tone or "bad"),
    )
    last = max(now.rows, key=lambda row: row.latency)
    target = conf.target(last.name)
    yield Figure(
        _("Longest wait"),
        spelt(last.latency),
        _("in %(queue)s, target %(target)s") % {"queue": last.name, "target": spelt(target)} if last.latency else "",
        address(request, "jobs_queue", last.name),
        "warn" if last.latency > target else "",
        charts.meter(_("The longest wait, as a part of its queue's target"), last.latency, target),
    )
    busy, threads = (sum(getattr(worker, name) for worker in now.alive) for name in ("busy", "threads"))
    text = ngettext("of %(t)s, in %(n)s process", "of %(t)s, in %(n)s processes", len(now.alive))
    yield Figure(
        _("Threads busy"),
        f"{busy:,}",
        text % {"t": f"{threads:,}", "n": f"{len(now.alive):,}"},
        address(request, "jobs_workers"),
        "" if now.alive else "bad",
        charts.meter(_("Busy threads, as a part of all"), busy, threads or 1),
    )
    yield Figure(
        _("Dead"),
        str(dead),
        _("%(n)s more in the last hour") % {"n": f"{now.died:,}"} if now.died else "",
        address(request, "jobs_list", "dead"),
        "bad" if now.died else "",
        charts.trend(
            _("Jobs that died, by minute, last hour"),
            [minute.outcomes["dead"] for minute in minutes],
            "bad",
        ),
    )
