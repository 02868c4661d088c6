"""The metrics in Prometheus' format, read from Redis. MissingExtraError without the extra `dashboard`."""

from collections import Counter
from collections.abc import Iterator

from jobs import conf, queues, scheduler
from jobs.batches import rows
from jobs.broker.connections import get_connection
from jobs.errors import MissingExtraError
from jobs.inspection import attempt_counts, samples, unsent, workers
from jobs.inspection.sources import Source, sizes
from jobs.limits.usage import usage

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
except ImportError as error:
    raise MissingExtraError("The page of metrics", "prometheus-client", "dashboard") from error

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
BATCHES = 200  # batches of which each scrape reads the state


def text() -> bytes:
    """Return all metrics. Raises JobsError and redis-py's errors if a server does not answer."""
    return generate_latest(Collector())


class Collector:
    """The metrics, read from Redis at each scrape."""

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; prometheus-client calls this as it does for a registry."""
        yield from _of_queues()
        yield from _of_workers()
        yield from _of_attempts()
        yield from _of_outbox()
        yield from _of_limits()
        yield from _of_batches()
        lag = GaugeMetricFamily("jobs_scheduler_lag_seconds", "How late the most overdue recurring entry is.")
        lag.add_metric([], scheduler.lag())
        yield lag


def _of_queues() -> Iterator[Metric]:
    length = GaugeMetricFamily("jobs_queue_length", "Jobs that wait in the queue.", labels=["queue"])
    latency = GaugeMetricFamily(
        "jobs_queue_latency_seconds", "How long the queue's first job has waited.", labels=["queue"]
    )
    paused = GaugeMetricFamily("jobs_queue_paused", "Whether the queue is paused.", labels=["queue"])
    names = queues.paused()
    for name, sample in samples.measure().items():
        length.add_metric([name], sample.length)
        latency.add_metric([name], sample.latency)
        paused.add_metric([name], float(name in names))
    dead = GaugeMetricFamily("jobs_dead", "Dead jobs.", labels=["queue"])
    registries = [Source(get_connection(name), "failed", name) for name in conf.queues()]
    for source, size in sizes(registries).items():
        dead.add_metric([source.queue], size)
    yield from (length, latency, paused, dead)


def _of_outbox() -> Iterator[Metric]:
    backlog = unsent.backlog()
    if backlog is None:
        return
    for name, text, value in (
        ("jobs_unsent", "Durable jobs that Redis does not have yet.", backlog.number),
        ("jobs_unsent_oldest_seconds", "How long the oldest of them has been unsent.", backlog.oldest),
    ):
        family = GaugeMetricFamily(name, text)
        family.add_metric([], value)
        yield family


def _of_limits() -> Iterator[Metric]:
    in_use = GaugeMetricFamily("jobs_limit_in_use", "Slots of the limit that are owned.", labels=["limit"])
    waiting = GaugeMetricFamily("jobs_limit_waiting", "Jobs that wait for the limit.", labels=["limit"])
    waited = GaugeMetricFamily("jobs_limit_waited_seconds", "How long any has waited for it.", labels=["limit"])
    limits = usage()
    for each in limits:
        in_use.add_metric([each.id], each.in_use)
        waiting.add_metric([each.id], each.waiting)
        waited.add_metric([each.id], each.longest_wait)
    yield from (in_use, waiting, waited) if limits else ()


def _of_batches() -> Iterator[Metric]:
    """Counts among the newest; a server that never had a batch has no such metric."""
    if not (listed := rows.listed(0, BATCHES)):
        return
    family = GaugeMetricFamily("jobs_batches", f"Batches by state, of the newest {BATCHES}.", labels=["state"])
    for state, number in Counter(row.state for row in listed).items():
        family.add_metric([state], number)
    yield family


def _of_workers() -> Iterator[Metric]:
    alive = workers.listed(jobs=0)
    for name, text, value in (
        ("jobs_workers", "Worker processes.", len(alive)),
        ("jobs_threads", "Their threads.", sum(worker.threads for worker in alive)),
        ("jobs_threads_busy", "Threads that ran a job at the last beat.", sum(worker.busy for worker in alive)),
    ):
        family = GaugeMetricFamily(name, text)
        family.add_metric([], value)
        yield family
    loops = [worker for worker in alive if worker.tasks]
    if loops:
        lag = GaugeMetricFamily(
            "jobs_loop_lag_seconds", "How late the worker's event loop was, at most, in ten seconds.", labels=["worker"]
        )
        for worker in loops:
            lag.add_metric([worker.name], worker.loop_lag)
        places = GaugeMetricFamily("jobs_tasks", "Async commands that event loops run at once, at most.")
        places.add_metric([], sum(worker.tasks for worker in loops))
        running = GaugeMetricFamily("jobs_tasks_running", "Async commands that ran on them at the last beat.")
        running.add_metric([], sum(worker.tasks_running for worker in loops))
        yield from (lag, places, running)


def _of_attempts() -> Iterator[Metric]:
    labels = ["queue", "command"]
    counted = CounterMetricFamily("jobs_attempts", "Attempts by how they ended.", labels=[*labels, "outcome"])
    durations = HistogramMetricFamily("jobs_attempt_seconds", "How long attempts took.", labels=labels)
    by_command: dict[tuple[str, str], attempt_counts.Tally] = {}
    for (queue, command, outcome), buckets in attempt_counts.totals().items():
        counted.add_metric([queue, command, outcome], buckets.total())
        by_command.setdefault((queue, command), attempt_counts.Tally()).buckets.update(buckets)
    for (queue, command), tally in by_command.items():
        passed, counts = 0, []
        for bucket in range(max(tally.buckets) + 1):
            passed += tally.buckets[bucket]
            counts.append((f"{2**bucket / 1e6:g}", float(passed)))
        durations.add_metric([queue, command], [*counts, ("+Inf", float(passed))], tally.seconds)
    yield from (counted, durations)
