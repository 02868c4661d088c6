"""What is queued, runs and waits now, and how fast: read once for the overview, its figures, and the API."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from jobs import conf, inspection
from jobs.broker.times import MINUTE
from jobs.inspection import Count, attempt_counts, samples, workers
from jobs.inspection.attempt_counts import ByMinute, Tally
from jobs.inspection.samples import Minute
from jobs.job import JobState

PACE = 5  # minutes over which the rates of enqueued and finished jobs are measured


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


def current(hour: ByMinute, sampled: Sequence[Minute] = (), *, is_scheduled: bool) -> Now:
    """Return the current state. `hour`: the attempts of the last hour by minute; `sampled`: its samples, if read."""
    alive = workers.listed(jobs=0)
    died = sum(tally.outcomes["dead"] for _start, of_step in hour for tally in of_step.values())
    return Now(list(_queues(hour, sampled, alive)), inspection.counts(), alive, died, is_scheduled)


def _queues(hour: ByMinute, sampled: Sequence[Minute], alive: Sequence[workers.Worker]) -> Iterator[QueueRow]:
    measured, before = samples.measure(), samples.lengths_before(PACE, sampled)
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
            paused=measured[name].paused,
            workers=sum(name in worker.queues for worker in alive),
        )


def by_queue(hour: ByMinute, minutes: int) -> dict[str, Tally]:
    """Return the attempts of the last `minutes` by queue."""
    recent = [of_step for _start, of_step in hour[-minutes:]]
    return {
        name: attempt_counts.together(of_step[name] for of_step in recent if name in of_step) for name in conf.queues()
    }
