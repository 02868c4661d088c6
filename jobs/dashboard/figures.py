"""The overview's large numbers, and the lines of its table of queues: their colours, and what is drawn beside them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from jobs import conf
from jobs.broker.times import HOUR, MINUTE
from jobs.dashboard import charts
from jobs.dashboard.format import NONE, percent
from jobs.dashboard.format import span as spelt
from jobs.dashboard.navigation import address, below
from jobs.dashboard.now import PACE, Now, QueueRow
from jobs.inspection import attempt_counts
from jobs.inspection.attempt_counts import Tally
from jobs.inspection.digests import Usual, UsualNow
from jobs.inspection.samples import Minute
from jobs.job import JobState

UNFOLDED = 12  # queues up to which idle ones are shown like the others
FAILING = 5  # percent of the last minutes' attempts from which failures are marked


@dataclass(frozen=True, slots=True)
class Figure:
    """A large number; `tone` colours it: warn or bad."""

    label: str
    value: str
    note: str = ""
    url: str = ""
    tone: str = ""
    spark: SafeString | str = ""
    usual: str = ""  # what is usual at this hour


def usually(usual: Usual, text: str) -> str:
    """Return the text with "usually" before it; "" if it is not known what is usual."""
    return _("usually %(usual)s") % {"usual": text} if usual.is_known else ""


@dataclass(frozen=True, slots=True)
class Line:
    """
    A queue as the table shows it: its figures, its attempts of the last minutes, and the address of the overview.
    It formats its numbers itself, because a page has dozens of lines and the template's filters are slow.
    """

    row: QueueRow
    recent: Tally
    overview: str

    @property
    def url(self) -> str:
        return below(self.overview, "queue", self.row.name)

    @property
    def change_url(self) -> str:
        return below(self.overview, "queue", self.row.name, "resume" if self.row.paused else "pause")

    @property
    def came(self) -> str:
        return NONE if self.row.enqueued_a_minute is None else f"{self.row.enqueued_a_minute:,.0f}"

    @property
    def left(self) -> str:
        return f"{self.row.finished_a_minute:,.0f}"

    @property
    def failing(self) -> float:
        """Percent of the last minutes' attempts that failed."""
        return 100 * self.recent.failed / self.recent.attempts if self.recent.attempts else 0.0

    @property
    def failed(self) -> str:
        return f"{round(self.failing, 1):g} %"

    @property
    def target(self) -> float:
        return conf.target(self.row.name)

    @property
    def aim(self) -> str:
        return _("of %(target)s") % {"target": spelt(self.target)}

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


def figures(
    request: HttpRequest,
    now: Now,
    minutes: Sequence[Tally],
    recent: Mapping[str, Tally],
    sampled: Sequence[Minute],
    usual: UsualNow,
) -> Iterator[Figure]:
    """
    Yield the five large numbers, with what is usual and their course over the last hour. `minutes`: the attempts of
    each minute of the last hour; `recent`: those of the last PACE minutes by queue; `sampled`: the hour's samples.
    """
    every, lately, dead = usual.together, attempt_counts.together(recent.values()), now.counts[JobState.DEAD]
    finished = [minute.outcomes["finished"] for minute in minutes]
    text = _("%(n)s in the last hour")
    yield Figure(
        _("Finished / min"),
        f"{lately.outcomes['finished'] / PACE:,.0f}",
        text % {"n": f"{sum(finished):,}"},
        address(request, "jobs_list", "finished"),
        spark=charts.trend(_("Finished jobs by minute, last hour"), finished),
        usual=usually(every, f"{every.attempts * (1 - every.failed) / (HOUR / MINUTE):,.0f}"),
    )
    failed = [minute.failed for minute in minutes]
    part = lately.failed / lately.attempts if lately.attempts else 0.0
    tone = "bad" if 100 * part >= FAILING else ""
    yield Figure(
        _("Failing"),
        percent(part),
        text % {"n": f"{sum(failed):,}"},
        address(request, "jobs_list", "retrying" if lately.outcomes["retried"] > lately.outcomes["dead"] else "dead"),
        tone,
        charts.trend(_("Failed attempts by minute, last hour"), failed, tone or "bad"),
        usual=usually(every, percent(every.failed)),
    )
    last = max(now.rows, key=lambda row: row.latency)
    target, of_last = conf.target(last.name), usual.queues.get(last.name, Usual())
    yield Figure(
        _("Longest wait"),
        spelt(last.latency),
        _("in %(queue)s, target %(target)s") % {"queue": last.name, "target": spelt(target)} if last.latency else "",
        address(request, "jobs_queue", last.name),
        "warn" if last.latency > target else "",
        charts.trend(
            _("Longest wait of a first job by minute, last hour"),
            [minute.longest[0] for minute in sampled],
            "warn" if last.latency > target else "",
        ),
        usually(of_last, spelt(of_last.wait)),
    )
    busy, threads = (sum(getattr(worker, name) for worker in now.alive) for name in ("busy", "threads"))
    text = ngettext("of %(t)s, in %(n)s process", "of %(t)s, in %(n)s processes", len(now.alive))
    yield Figure(
        _("Threads busy"),
        f"{busy:,}",
        text % {"t": f"{threads:,}", "n": f"{len(now.alive):,}"},
        address(request, "jobs_workers"),
        "" if now.alive else "bad",
        charts.trend(_("Busy threads by minute, last hour"), [minute.busy for minute in sampled]),
        usually(every, f"{every.seconds / HOUR:,.1f}"),
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
        usually(every, _("%(n)s an hour") % {"n": f"{every.dead:,.0f}"}),
    )
