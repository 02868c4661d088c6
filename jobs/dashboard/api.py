"""The dashboard's data as JSON, for users with permission to view the dashboard and for token holders."""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import wraps
from typing import Any

import orjson
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from redis.exceptions import RedisError

from jobs import bulk, conf, runtime, scheduler
from jobs.broker.times import HOUR, MINUTE
from jobs.dashboard import commands as command_pages
from jobs.dashboard import problems
from jobs.dashboard.commands import SPANS
from jobs.dashboard.errors import READ as ERRORS
from jobs.dashboard.job import LINKS
from jobs.dashboard.lists import SIZE, query_of, waited_for
from jobs.dashboard.now import by_queue, current
from jobs.dashboard.overview import warnings
from jobs.dashboard.permissions import may
from jobs.dashboard.recurring import ENTRIES, RUNS
from jobs.dashboard.searching import LOOKED_AT
from jobs.errors import JobsError
from jobs.inspection import attempt_counts, digests, error_counts, everywhere, find, job_steps, timeline, workers
from jobs.inspection.results import returned
from jobs.inspection.rows import Row
from jobs.inspection.search import Search
from jobs.job import JobState
from jobs.record import prerequisites


def for_readers(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """
    Wrap a view that only reads, for programs with a token of JOBS["API_TOKENS"] and users who may view the dashboard.

    401 for another token, 404 without permission. It authenticates by itself, so Django's LoginRequiredMiddleware does
    not redirect it. No cache keeps the answer.
    """

    @login_not_required
    @require_safe
    @wraps(view)
    def wrapped(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and given:
            if any(hmac.compare_digest(given.encode(), str(token).encode()) for token in conf.get("API_TOKENS")):
                answer = view(request, **kwargs)
            else:
                text = 'This is no token of JOBS["API_TOKENS"].'
                answer = HttpResponse(orjson.dumps({"error": text}), content_type="application/json", status=401)
                answer["WWW-Authenticate"] = "Bearer"
        elif request.user.is_active and request.user.is_staff and may(request, "view"):
            answer = view(request, **kwargs)
        else:
            raise Http404
        answer["Cache-Control"] = "private, no-store"
        return answer

    return wrapped


def endpoint(view: Callable[..., Any]) -> Callable[..., HttpResponse]:
    """Wrap a view as a JSON endpoint for readers. 400 for a bad parameter, 503 if Redis is unreachable."""

    @for_readers
    def wrapped(request: HttpRequest, **kwargs: Any) -> HttpResponse:
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
    """Counts by state, the queues, attempts of the last hour, and warnings."""
    hour, by_command = attempt_counts.last_hour()
    _upcoming, is_scheduled = scheduler.upcoming()
    now = current(hour, is_scheduled=is_scheduled)
    ended = by_queue(hour, HOUR // MINUTE)
    found = problems.current(by_command, now.rows, now.alive, digests.usual_now(runtime.now()))
    return {
        "counts": {state.value: {"value": n.value, "more": n.more} for state, n in now.counts.items()},
        "queues": [
            {
                "name": row.name,
                "length": row.length,
                "latency_seconds": row.latency,
                "running": row.running,
                "enqueued_a_minute": row.enqueued_a_minute,
                "finished_a_minute": row.finished_a_minute,
                "empty_in_seconds": row.drain,
                "workers": row.workers,
                "paused": row.paused,
                "last_hour": dict(ended[row.name].outcomes),
            }
            for row in now.rows
        ],
        "problems": [problems.as_dict(each) for each in found],
        "warnings": list(warnings(now)),
    }


def jobs(request: HttpRequest, state: str) -> dict[str, Any]:
    """A page of jobs. Takes the filters of the HTML page, `cursor`, and `size` (at most 100)."""
    size = min(max(int(request.GET.get("size", SIZE)), 1), 100)
    page = query_of(request.GET, state).page(request.GET.get("cursor", ""), size)
    lacked = waited_for(page.rows)
    return {
        "jobs": [_row(row, lacked) for row in page.rows],
        "next_cursor": page.next_cursor,
        "looked_at": page.looked_at,
    }


def errors(request: HttpRequest) -> dict[str, Any]:
    """The errors that were seen last, with what became of their jobs that were retried."""
    groups = error_counts.recent(ERRORS)
    became = error_counts.became([group.id for group in groups if group.retried_at])
    return {
        "errors": [
            {**asdict(group), "commands": dict(group.commands), "retried": became.get(group.id)} for group in groups
        ]
    }


def search(request: HttpRequest) -> dict[str, Any]:
    """Jobs in all states that match `q`, the newest first; `size` (at most 100). ValueError for an invalid search."""
    size = min(max(int(request.GET.get("size", SIZE)), 1), 100)
    found = everywhere.find_all(Search.parse(request.GET.get("q", "")), LOOKED_AT)
    lacked = waited_for(found.rows[:size])
    return {
        "jobs": [_row(row, lacked) for row in found.rows[:size]],
        "counts": {state.value: {"value": n.value, "more": n.more} for state, n in found.counts.items()},
        "looked_at": found.looked_at,
        "total": found.total,
    }


def job(request: HttpRequest, job_id: str) -> dict[str, Any]:
    """One job with its history, and the timeline that its page shows."""
    job = find(job_id)
    if job is None:
        raise Http404(f"There is no record of job {job_id}.")
    dependents, waiting = prerequisites.some_dependents(job.connection, job_id, LINKS)
    state, report = job.state, job.report
    return {
        "id": job_id,
        "state": state,
        "queue": job.origin,
        "description": job.description,
        "reason": job.reason,
        "history": [asdict(event) for event in job.history],
        "timeline": [timeline.as_dict(step) for step in timeline.of(job)],
        "report": report and report._asdict(),
        "returned": returned(job) if state is JobState.FINISHED else None,
        "attempts": job.progress.attempts,
        "requeues": job.progress.requeues,
        "steps": job_steps.as_dict(job),
        "prerequisites": job.prerequisites,
        "dependents": dependents,
        "dependents_in_all": waiting,
    }


def worker_list(request: HttpRequest) -> dict[str, Any]:
    """The worker processes."""
    return {"workers": workers.listed()}  # orjson serializes dataclasses: fast for 10,000 running jobs, too


def worker(request: HttpRequest, name: str) -> dict[str, Any]:
    """One worker process, with its most recent stacks."""
    answer = workers.get(name)
    if answer is None:
        raise Http404(f"There is no worker {name}.")
    worker, stacks = answer
    return {**asdict(worker), "stacks": stacks}


def recurring(request: HttpRequest) -> dict[str, Any]:
    """A page of the recurring entries, with their last runs; `cursor` is the previous page's `next_cursor`."""
    entries, further = scheduler.page(request.GET.get("cursor", ""), ENTRIES)
    histories = scheduler.histories(entries, RUNS)
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
        ],
        "next_cursor": further,
    }


def commands(request: HttpRequest) -> dict[str, Any]:
    """
    By command, over the last hour, `span=day` or `span=3days`: outcomes, percentiles of the duration in seconds (p50,
    p95, p99), and the attempts of each time step. ValueError for another span.
    """
    span = request.GET.get("span", "hour")
    if span not in SPANS:
        raise ValueError(f"Unknown span {span!r}. Use one of: {', '.join(SPANS)}.")
    rows, starts = command_pages.by_command(span, "time")
    return {
        "steps": starts,
        "commands": [
            {
                "command": row.command,
                "queue": row.queue,
                "outcomes": dict(row.tally.outcomes),
                "p50_seconds": row.p50,
                "p95_seconds": row.p95,
                "p99_seconds": row.p99,
                "seconds": row.tally.seconds,
                "attempts": [tally.attempts for tally in row.over_time],
                "failures": [tally.failed for tally in row.over_time],
            }
            for row in rows
        ],
    }


def changes(request: HttpRequest) -> dict[str, Any]:
    """The most recent bulk changes, with their progress."""
    return {"changes": [_change(each) for each in bulk.recent(100)]}


def change(request: HttpRequest, job_id: str) -> dict[str, Any]:
    """One bulk change, by the id of its job; with the job's state until the change has ended."""
    change = bulk.get(job_id)
    if change is None:
        raise Http404(f"There is no change by job {job_id}.")
    job = None if change.ended else find(job_id)
    return {**_change(change), "state": job.state if job else None}


def _change(change: bulk.Change) -> dict[str, Any]:
    return {**asdict(change), "filters": dict(change.filters)}


def _row(row: Row, lacked: Mapping[str, tuple[list[str], int]]) -> dict[str, Any]:
    some, count = lacked.get(row.id, ([], 0))
    return {**row.as_dict(), "waits_for": some, "waits_for_in_all": count}
