"""The first page: the problems, the figures, a chart, the queues, and what comes next."""

from collections.abc import Collection, Iterator
from datetime import timedelta

from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from jobs import bulk, conf, runtime, scheduler
from jobs.broker.times import HOUR, MINUTE
from jobs.dashboard import problems, texts, throughput
from jobs.dashboard.commands import SPANS
from jobs.dashboard.figures import UNFOLDED, Line, figures
from jobs.dashboard.format import span as spelt
from jobs.dashboard.navigation import address
from jobs.dashboard.now import PACE, Now, QueueRow, by_queue, current
from jobs.dashboard.wrappers import Screen
from jobs.inspection import attempt_counts, digests, samples, unsent
from jobs.job import JobState

WORKERS = 20  # workers listed
CHANGES_SHOWN = timedelta(minutes=5)  # a bulk change stays on the page for so long after its end


def overview(request: HttpRequest) -> Screen:
    """The problems, five figures, counts by state, a chart, the queues, and the next recurring runs."""
    span = request.GET.get("span", "hour")
    span = span if span in SPANS else "hour"
    hour, minutes = attempt_counts.last_hour()
    rows = minutes
    if span != "hour" and throughput.needs_rows(request):
        rows = attempt_counts.rows_by_time(*SPANS[span])
    if span == "hour" or rows is not minutes:
        steps = [(start, of_step.total) for start, of_step in rows]
    else:
        steps = attempt_counts.by_time(*SPANS[span], last_hour=hour)
    upcoming, is_scheduled = scheduler.upcoming()
    usual, sampled = digests.usual_now(runtime.now()), samples.last(HOUR // MINUTE)
    now = current(hour, sampled, is_scheduled=is_scheduled)
    found = problems.current(minutes, now.rows, now.alive, usual)
    recent = by_queue(hour, PACE)
    here = address(request, "jobs_dashboard_changelist")
    lines = [Line(row, recent[row.name], here) for row in now.rows]
    idle = [line for line in lines if line.is_idle] if len(lines) > UNFOLDED else []
    chart = throughput.chart(request, span, steps, rows, sampled)
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
        "figures": list(
            figures(request, now, [of_minute.total for _start, of_minute in minutes], recent, sampled, usual)
        ),
        "workers": now.alive[:WORKERS],
        "processes": len(now.alive),
        "busy": sum(worker.busy for worker in now.alive),
        "threads": sum(worker.threads for worker in now.alive),
        "numbers": throughput.numbers(steps, chart["title"], chart["texts"]),
        "chart": chart,
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


# --- warnings --------------------------------------------------------------------------------


def warnings(now: Now, on_cards: Collection[str] = ()) -> Iterator[str]:
    """Yield a sentence for each problem, without the waits of the queues `on_cards`."""
    if not now.alive:
        yield _("No worker is running: queued jobs are not run, and due jobs are not enqueued.")
    elif not now.is_scheduled:
        yield _("No process holds the scheduler's lease: recurring entries do not run.")
    for row in now.rows:
        yield from _of_queue(row, served=bool(row.workers or not now.alive), is_told=row.name in on_cards)
    if (backlog := unsent.backlog()) and backlog.oldest > MINUTE:
        text = ngettext(
            "%(n)s durable job is not in Redis yet, since %(span)s.",
            "%(n)s durable jobs are not in Redis yet, the oldest since %(span)s.",
            backlog.number,
        )
        yield text % {"n": f"{backlog.number:,}", "span": spelt(backlog.oldest)}
    if of_dead := " ".join(_of_dead(now)):
        yield of_dead


def _of_dead(now: Now) -> Iterator[str]:
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
