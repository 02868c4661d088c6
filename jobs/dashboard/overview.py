"""The first page: how it goes, and in a plain sentence what does not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from django.http import HttpRequest
from django.utils import timezone

from jobs import conf, inspection, metrics, queues, scheduler, statistics, workers
from jobs.dashboard import charts
from jobs.dashboard.access import Screen
from jobs.inspection import Count
from jobs.job import JobState
from jobs.statistics import HOUR, MINUTE, Tally

SPANS = {"hour": (HOUR, MINUTE), "day": (24 * HOUR, HOUR), "3days": (72 * HOUR, HOUR)}


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A queue in the table."""

    name: str
    purpose: str
    length: int
    latency: float
    running: int
    finished_a_minute: float
    drain: float | None  # seconds at the pace of the last five minutes; None: not at all
    paused: bool
    workers: int


def overview(request: HttpRequest) -> Screen:
    """Counts by state, the queues, throughput, what recurs next, and what is wrong."""
    span = request.GET.get("span", "hour")
    seconds, step = SPANS.get(span, SPANS["hour"])
    steps = statistics.by_time(seconds, step)
    alive = workers.alive()
    rows = list(_queues(alive))
    counts = inspection.counts()
    upcoming = sorted((e for e in scheduler.entries() if e.next_at), key=lambda e: e.next_at or datetime.max)[:5]
    return "overview", {
        "title": "Background jobs",
        "span": span if span in SPANS else "hour",
        "spans": list(SPANS),
        "counts": [(state.value, counts[state]) for state in counts],
        "rows": rows,
        "workers": alive,
        "busy": sum(len(worker.running) for worker in alive),
        "threads": sum(worker.threads for worker in alive),
        "steps": [(datetime.fromtimestamp(start, UTC), tally) for start, tally in reversed(steps)],
        "chart": charts.bars("Attempts over time: finished, and failed above them", list(_bars(steps))),
        "processed": sum(tally.attempts for _, tally in steps),
        "failed": sum(tally.failed for _, tally in steps),
        "upcoming": upcoming,
        "warnings": list(_warnings(rows, counts, alive)),
    }


def _queues(alive: Sequence[workers.Worker]) -> Iterator[QueueRow]:
    samples, paused = metrics.measure(), queues.paused()
    recent = statistics.by_queue(5 * MINUTE)
    for name, purpose in conf.queues().items():
        sample = samples[name]
        pace = recent[name].outcomes["finished"] / 5
        yield QueueRow(
            name=name,
            purpose=purpose,
            length=sample.length,
            latency=sample.latency,
            running=sum(job.queue == name for worker in alive for job in worker.running),
            finished_a_minute=pace,
            drain=sample.length / pace * 60 if pace else None,
            paused=name in paused,
            workers=sum(name in worker.queues for worker in alive),
        )


def _bars(steps: Sequence[tuple[int, Tally]]) -> Iterator[charts.Bar]:
    for start, tally in steps:
        at = timezone.localtime(datetime.fromtimestamp(start, UTC))
        label = f"{at:%d %b %H:%M}: {tally.attempts - tally.failed} ended well, {tally.failed} failed"
        yield charts.Bar(label, [("ok", tally.attempts - tally.failed), ("failed", tally.failed)])


def _warnings(
    rows: Sequence[QueueRow], counts: dict[JobState, Count], alive: Sequence[workers.Worker]
) -> Iterator[str]:
    if not alive:
        yield "No worker is running: nothing is done, nothing that is due is started."
    for row in rows:
        target = metrics.target(row.name)
        if alive and not row.workers:
            yield f"No worker serves the queue {row.name}: its {row.length:,} jobs wait."
        elif row.latency > target and not row.paused:
            yield f"The queue {row.name} is behind: its first job has waited {_span(row.latency)}, not {target:g} s."
        if row.paused and row.length:
            yield f"The queue {row.name} is paused, and {row.length:,} jobs wait in it."
    if counts[JobState.DEAD].value:
        yield f"{counts[JobState.DEAD]} dead jobs wait for a person to decide."


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
