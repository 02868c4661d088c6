"""The first page: the figures, and a sentence for each problem."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from jobs import bulk, conf, inspection, queues, scheduler
from jobs.broker.times import MINUTE
from jobs.dashboard import problems, texts, throughput
from jobs.dashboard.commands import SPANS
from jobs.dashboard.figures import UNFOLDED, Line, figures
from jobs.dashboard.format import span as spelt
from jobs.dashboard.wrappers import Screen
from jobs.inspection import Count, attempt_counts, samples, workers
from jobs.inspection.attempt_counts import ByMinute, Tally
from jobs.job import JobState

PACE = 5  # minutes over which the rates of enqueued and finished jobs are measured
WORKERS = 20  # workers listed
CHANGES_SHOWN = timedelta(minutes=5)  # a bulk change stays on the page for so long after its end


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A queue in the table."""

    name: str
    purpose: str
    length: int
    latency: float
    running: int
    enqueued_a_minute: float | None  # None: no sample of the length is old enough
    finished_a_minute: float
    drain: float | None  # seconds until the queue is empty, at the rate above; None: no job finishes
    paused: bool
    workers: int


@dataclass(frozen=True, slots=True)
class Now:
    """The current state, from which the warnings are made."""

    rows: Sequence[QueueRow]
    counts: Mapping[JobState, Count]
    alive: Sequence[workers.Worker]
    died: int  # jobs that died in the last hour
    is_scheduled: bool  # True, too, if there are no recurring entries


def overview(request: HttpRequest) -> Screen:
    """The problems, five figures, counts by state, a chart, the queues, and the next recurring runs."""
    span = request.GET.get("span", "hour")
    span = span if span in SPANS else "hour"
    hour, by_command = attempt_counts.last_hour()
    if span == "hour":
        steps = [(start, attempt_counts.together(of_step.values())) for start, of_step in hour]
    else:
        steps = attempt_counts.by_time(*SPANS[span], last_hour=hour)
    upcoming, is_scheduled = scheduler.upcoming()
    now = current(hour, is_scheduled=is_scheduled)
    found = problems.current(by_command, now.rows, now.alive)
    recent = by_queue(hour, PACE)
    lines = [Line(row, recent[row.name]) for row in now.rows]
    idle = [line for line in lines if line.is_idle] if len(lines) > UNFOLDED else []
    ended = attempt_counts.together(tally for _start, tally in steps)
    since = timezone.now() - CHANGES_SHOWN
    return "overview", {
        "title": _("Background jobs"),
        "span": span,
        "spans": list(SPANS),
        "counts": [(state.value, now.counts[state]) for state in now.counts],
        "rows": now.rows,
        "shown": [line for line in lines if line not in idle],
        "idle": idle,
        "figures": list(figures(request, now, hour, recent, PACE)),
        "workers": now.alive[:WORKERS],
        "processes": len(now.alive),
        "busy": sum(worker.busy for worker in now.alive),
        "threads": sum(worker.threads for worker in now.alive),
        "steps": [(datetime.fromtimestamp(start, UTC), tally) for start, tally in reversed(steps)],
        "chart": throughput.chart(request, span, steps, hour),
        "processed": ended.attempts,
        "failed": ended.failed,
        "outcomes": [(name, ended.outcomes[name]) for name in ("retried", "dead", "requeued", "discarded")],
        "upcoming": upcoming,
        "changes": [
            (texts.verb_for(each.name, each.state), each)
            for each in bulk.recent()
            if each.ended is None or each.ended > since
        ],
        "problems": list(problems.cards(request, found, [row.name for row in now.rows if row.paused])),
        "warnings": list(warnings(now, {problem.queue for problem in found if not problem.command})),
    }


def current(hour: ByMinute, *, is_scheduled: bool) -> Now:
    """Return the current state; `hour` has the attempts of the last hour by minute."""
    alive = workers.listed(jobs=0)
    died = sum(tally.outcomes["dead"] for _start, of_step in hour for tally in of_step.values())
    return Now(list(_queues(hour, alive)), inspection.counts(), alive, died, is_scheduled)


def _queues(hour: ByMinute, alive: Sequence[workers.Worker]) -> Iterator[QueueRow]:
    measured, paused, before = samples.measure(), queues.paused(), samples.lengths_before(PACE)
    recent = by_queue(hour, PACE)
    since = by_queue(hour, round(before[0] / MINUTE)) if before else recent
    for name, purpose in conf.queues().items():
        length, pace = measured[name].length, recent[name].outcomes["finished"] / PACE
        enqueued = None
        if before:  # enqueued = taken since the sample + growth of the length
            came = length - before[1].get(name, 0) + since[name].attempts
            enqueued = max(0, came) / before[0] * MINUTE
        yield QueueRow(
            name=name,
            purpose=purpose,
            length=length,
            latency=measured[name].latency,
            running=measured[name].running,
            enqueued_a_minute=enqueued,
            finished_a_minute=pace,
            drain=length / pace * MINUTE if pace else None,
            paused=name in paused,
            workers=sum(name in worker.queues for worker in alive),
        )


def by_queue(hour: ByMinute, minutes: int) -> dict[str, Tally]:
    """Return the attempts of the last `minutes` by queue."""
    recent = [of_step for _start, of_step in hour[-minutes:]]
    return {
        name: attempt_counts.together(of_step[name] for of_step in recent if name in of_step) for name in conf.queues()
    }


# --- warnings --------------------------------------------------------------------------------


def warnings(now: Now, on_cards: Collection[str] = ()) -> Iterator[str]:
    """Yield a sentence for each problem, without the waits of the queues `on_cards`."""
    if not now.alive:
        yield _("No worker is running: queued jobs are not run, and due jobs are not enqueued.")
    elif not now.is_scheduled:
        yield _("No process holds the scheduler's lease: recurring entries do not run.")
    for row in now.rows:
        yield from _of_queue(row, served=bool(row.workers or not now.alive), is_told=row.name in on_cards)
    dead = now.counts[JobState.DEAD]
    if dead.value and now.died:
        text = ngettext(
            "The number of dead jobs is growing: %(n)s has died in the last hour.",
            "The number of dead jobs is growing: %(n)s have died in the last hour.",
            now.died,
        )
        yield text % {"n": f"{now.died:,}"}
    if dead.value:
        text = ngettext(
            "%(n)s dead job waits for a person to decide.", "%(n)s dead jobs wait for a person to decide.", dead.value
        )
        yield text % {"n": dead}


def _of_queue(row: QueueRow, *, served: bool, is_told: bool) -> Iterator[str]:
    values = {"queue": row.name, "n": f"{row.length:,}", "latency": spelt(row.latency)}
    values["target"] = spelt(conf.target(row.name))
    if not served:
        text = ngettext(
            "No worker serves the queue %(queue)s: its %(n)s job waits.",
            "No worker serves the queue %(queue)s: its %(n)s jobs wait.",
            row.length,
        )
        yield (text if row.length else _("No worker serves the queue %(queue)s.")) % values
    elif row.latency > conf.target(row.name) and not row.paused and not is_told:
        text = _("The queue %(queue)s is behind: its first job has waited %(latency)s; the target is %(target)s.")
        yield text % values
    if row.paused and row.length:
        text = ngettext(
            "The queue %(queue)s is paused, and %(n)s job waits in it.",
            "The queue %(queue)s is paused, and %(n)s jobs wait in it.",
            row.length,
        )
        yield text % values
