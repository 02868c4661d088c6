"""The dashboard's data as JSON, and as Prometheus's metrics, for who may view the dashboard or has a token."""

import hmac
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import orjson
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from redis.exceptions import RedisError

from jobs import conf, metrics, queues, scheduler, statistics, workers
from jobs.dashboard.access import may
from jobs.dashboard.lists import SIZE, query_of
from jobs.errors import JobsError
from jobs.inspection import JobQuery, counts, find
from jobs.job import JobState
from jobs.statistics import HOUR


def allowed(request: HttpRequest) -> bool:
    """Whether this request may read: by a token of JOBS["API_TOKENS"], or as a user who may view the dashboard."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and given:
        return any(hmac.compare_digest(given.encode(), str(token).encode()) for token in conf.get("API_TOKENS"))
    return bool(request.user.is_active and request.user.is_staff and may(request, "view"))


def endpoint(view: Callable[..., Any]) -> Callable[..., HttpResponse]:
    """An address that answers in JSON; for who may not read it there is none (404). 503 without a server."""

    @require_safe
    def wrapped(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        if not allowed(request):
            raise Http404
        try:
            answer, status = view(request, **kwargs), 200
        except Http404 as error:
            answer, status = {"error": str(error)}, 404
        except ValueError as error:
            answer, status = {"error": str(error)}, 400
        except (JobsError, RedisError) as error:
            answer, status = {"error": str(error)}, 503
        return HttpResponse(orjson.dumps(answer), content_type="application/json", status=status)

    return wrapped


def overview(request: HttpRequest) -> dict[str, Any]:
    """Counts by state, the queues, the last hour."""
    paused, samples, recent = queues.paused(), metrics.measure(), statistics.by_queue(HOUR)
    return {
        "counts": {state.value: {"value": n.value, "more": n.more} for state, n in counts().items()},
        "queues": [
            {
                "name": name,
                "length": sample.length,
                "latency_seconds": sample.latency,
                "paused": name in paused,
                "last_hour": dict(recent[name].outcomes),
            }
            for name, sample in samples.items()
        ],
    }


def jobs(request: HttpRequest, state: str) -> dict[str, Any]:
    """A page of jobs; the filters are those of the page, and `cursor` and `size` (100 at most)."""
    size = min(max(int(request.GET.get("size", SIZE)), 1), 100)
    found = query_of(request.GET, state).page(request.GET.get("cursor", ""), size)
    return {
        "jobs": [row.as_dict() for row in found.rows],
        "next_cursor": found.next_cursor,
        "looked_at": found.looked_at,
    }


def job(request: HttpRequest, job_id: str) -> dict[str, Any]:
    """One job with its history."""
    found = find(job_id)
    if found is None:
        raise Http404(f"There is no record of job {job_id}.")
    return {
        "id": job_id,
        "state": found.state,
        "queue": found.origin,
        "description": found.description,
        "reason": found.reason,
        "history": [asdict(event) for event in found.history],
        "attempts": found.progress.attempts,
        "requeues": found.progress.requeues,
        "prerequisites": found.prerequisites,
        "dependents": sorted(found.dependents),
    }


def worker_list(request: HttpRequest) -> dict[str, Any]:
    """The worker processes."""
    return {"workers": [asdict(worker) for worker in workers.alive()]}


def recurring(request: HttpRequest) -> dict[str, Any]:
    """The recurring entries, with their last runs."""
    entries = scheduler.entries()
    histories = scheduler.histories(entries, 10)
    return {
        "entries": [
            {
                "name": entry.name,
                "description": entry.description,
                "queue": entry.queue,
                "cron": entry.entry.cron,
                "every_seconds": entry.entry.every,
                "timezone": entry.entry.timezone,
                "paused": entry.paused,
                "next_at": entry.next_at,
                "runs": [asdict(run) for run in histories[entry.id]],
            }
            for entry in entries
        ]
    }


def commands(request: HttpRequest) -> dict[str, Any]:
    """The last hour by command: outcomes, and within how many seconds half, 95 % and 99 % ended."""
    return {
        "commands": [
            {
                "command": command,
                "queue": queue,
                "outcomes": dict(tally.outcomes),
                "p50_seconds": tally.quantile(0.5),
                "p95_seconds": tally.quantile(0.95),
                "p99_seconds": tally.quantile(0.99),
                "seconds": tally.seconds,
            }
            for (queue, command), tally in statistics.by_command(HOUR).items()
        ]
    }


# --- Prometheus ------------------------------------------------------------------------------


@require_safe
def prometheus(request: HttpRequest) -> HttpResponse:
    """What Prometheus scrapes. All of it comes from Redis, so it is the same whichever web process answers."""
    if not allowed(request):
        raise Http404
    try:
        text = generate_latest(Collector())
    except (JobsError, RedisError) as error:
        return HttpResponse(f"# {error}\n", content_type="text/plain", status=503)
    return HttpResponse(text, content_type=CONTENT_TYPE_PLAIN_0_0_4)


class Collector:
    """The metrics, read anew at each scrape."""

    def collect(self) -> Iterator[Metric]:
        """As prometheus-client asks a registry."""
        yield from _of_queues()
        yield from _of_workers()
        yield from _of_attempts()
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
    for name, sample in metrics.measure().items():
        length.add_metric([name], sample.length)
        latency.add_metric([name], sample.latency)
        paused.add_metric([name], float(name in names))
    dead = GaugeMetricFamily("jobs_dead", "Dead jobs that wait for a person.", labels=["queue"])
    for name in conf.queues():
        dead.add_metric([name], JobQuery(state=JobState.DEAD, queue=name).count().value)
    yield from (length, latency, paused, dead)


def _of_workers() -> Iterator[Metric]:
    alive = workers.alive()
    for name, text, value in (
        ("jobs_workers", "Worker processes.", len(alive)),
        ("jobs_threads", "Their threads.", sum(worker.threads for worker in alive)),
        ("jobs_threads_busy", "Threads that ran a job at the last beat.", sum(worker.busy for worker in alive)),
    ):
        family = GaugeMetricFamily(name, text)
        family.add_metric([], value)
        yield family


def _of_attempts() -> Iterator[Metric]:
    labels = ["queue", "command"]
    counted = CounterMetricFamily("jobs_attempts", "Attempts by how they ended.", labels=[*labels, "outcome"])
    durations = HistogramMetricFamily("jobs_attempt_seconds", "How long attempts took.", labels=labels)
    by_command: dict[tuple[str, str], statistics.Tally] = {}
    for (queue, command, outcome), buckets in statistics.totals().items():
        counted.add_metric([queue, command, outcome], buckets.total())
        by_command.setdefault((queue, command), statistics.Tally()).buckets.update(buckets)
    for (queue, command), tally in by_command.items():
        passed, found = 0, []
        for bucket in range(max(tally.buckets) + 1):
            passed += tally.buckets[bucket]
            found.append((f"{2**bucket / 1e6:g}", float(passed)))
        durations.add_metric([queue, command], [*found, ("+Inf", float(passed))], tally.seconds)
    yield from (counted, durations)
