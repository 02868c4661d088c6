"""Lists of jobs: by state, with filters; of one queue; grouped by error or command for some states."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpRequest
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from jobs import conf, inspection, queues
from jobs.broker.times import HOUR
from jobs.dashboard import searching, texts
from jobs.dashboard.activities import of_queue
from jobs.dashboard.wrappers import Screen
from jobs.inspection import Count, JobQuery, attempt_counts, samples, unsent, workers
from jobs.inspection.query import SEARCHED
from jobs.inspection.rows import Row
from jobs.inspection.search import Search, SearchError
from jobs.job import JobState
from jobs.record import prerequisites

SIZE = 25  # rows a page
GROUPED = SEARCHED  # jobs read to group them
GROUPABLE = (JobState.DEAD, JobState.RETRYING, JobState.DISCARDED)
GROUPS = ("error", "command")
FILTERS = ("q", "queue", "command", "error", "text", "id", "since", "until", "order", "fingerprint")
WAITED_FOR = 3  # prerequisites shown for each waiting job in a list

# The changes offered for jobs of a state.
ACTIONS = {
    JobState.QUEUED: ("cancel", "delete"),
    JobState.RUNNING: ("cancel",),
    JobState.SCHEDULED: ("run_now", "cancel", "delete"),
    JobState.RETRYING: ("retry", "cancel", "delete"),
    JobState.WAITING: ("run_now", "cancel", "delete"),
    JobState.BLOCKED: ("run_now", "cancel", "delete"),
    JobState.LIMITED: ("cancel", "delete"),
    JobState.FINISHED: ("delete",),
    JobState.DEAD: ("retry", "delete"),
    JobState.DISCARDED: ("retry", "delete"),
    JobState.CANCELLED: ("retry", "delete"),
    JobState.UNSENT: ("cancel", "delete"),
}


def jobs(request: HttpRequest, state: str) -> Screen:
    """A page of jobs in one state that match the filters; with `group`, the number of jobs by error or by command."""
    query, filters = query_of(request.GET, state), _given(request)
    group_by = request.GET.get("group", "")
    counts = None if query.is_search else inspection.counts(query.queue)
    if query.state in GROUPABLE and group_by in GROUPS:
        shown = _grouped(query, group_by)
    else:
        shown = listing(request, query, filters, counts.get(query.state) if counts else None)
    return "jobs", {
        "title": capfirst(_("%(state)s jobs") % {"state": texts.NAMES[state]}),
        "states": [each.value for each in unsent.states()],
        **searching.context(request, Search.of(filters), state, counts),
        "state": state,
        "query": urlencode(filters),
        "filters": filters,
        "queues": list(conf.queues()),
        "newest_first": query.newest_first,
        "groups": GROUPS if query.state in GROUPABLE else (),
        **shown,
    }


def queue(request: HttpRequest, queue: str) -> Screen:
    """One queue: its figures, and its jobs in the order in which workers take them, or reversed."""
    filters = {"queue": queue} | {name: value for name, value in _given(request).items() if name == "order"}
    query = query_of(filters, JobState.QUEUED.value)
    recent, sample, target = attempt_counts.by_queue(HOUR)[queue], samples.measure()[queue], conf.target(queue)
    return "queue", {
        "title": _("Queue %(queue)s") % {"queue": queue},
        "queue": queue,
        "purpose": conf.queues()[queue],
        "activity": of_queue(request, queue),
        "state": JobState.QUEUED.value,
        "filters": filters,
        "newest_first": query.newest_first,
        "sample": sample,
        "target": target,
        "late": sample.latency > target,
        "paused": queue in queues.paused(),
        "serving": sum(queue in worker.queues for worker in workers.listed(jobs=0)),
        "recent": recent,
        "p95": recent.quantile(0.95),
        **listing(request, query, filters),
    }


def listing(
    request: HttpRequest, query: JobQuery, filters: Mapping[str, str], known: Count | None = None
) -> dict[str, Any]:
    """
    Return the context of a page of rows. `known`: the number of jobs, if it has been read. Http404 for an invalid
    cursor.
    """
    try:
        page = query.page(request.GET.get("cursor", ""), SIZE)
    except ValueError as error:
        raise Http404(str(error)) from error
    total = query.total() if query.is_search else 0
    count = Count(page.matched, more=page.passed < total) if query.is_search else known or query.count()
    more = page.next_cursor and (query.is_search or count.more or page.passed < query_end(query, count))
    return {
        "rows": list(zip(page.rows, _waits(query, page.rows), strict=True)),
        "page": page,
        "count": count,
        "counted": texts.found(count) if query.is_search else texts.counted(count),
        "total": total,
        "searched": query.is_search,
        "full": len(page.rows) == SIZE,
        "next": urlencode({**filters, "cursor": page.next_cursor}) if more else "",
        "actions": [
            (
                name,
                texts.on_selected(name, query.state),
                texts.on_all(name, query.state, None if query.is_search else count),
            )
            for name in ACTIONS[query.state]
        ],
    }


def query_end(query: JobQuery, count: Count) -> float:
    """Return the length of the underlying list, or infinity if jobs of two states may share it."""
    shared = query.state not in (JobState.QUEUED, JobState.RUNNING, JobState.FINISHED, JobState.DEAD)
    return float("inf") if shared else count.value


def query_of(given: Mapping[str, Any], state: str) -> JobQuery:
    """
    Return the query of a page's address or form. Http404 for an unknown state or queue, SearchError for a filter that
    is not understood.
    """
    try:
        return JobQuery.of(state, given)
    except SearchError:
        raise
    except ValueError as error:
        raise Http404(str(error)) from error


def groups(query: JobQuery, by: str) -> tuple[list[tuple[str, int, Row]], int]:
    """
    Return the number of jobs of each error or command, with an example, and the number of jobs that match the query.
    Both count only among the first GROUPED jobs of the list.
    """
    counted: Counter[str] = Counter()
    examples: dict[str, Row] = {}
    for row in query.all(GROUPED):
        key = row.error if by == "error" else row.command
        counted[key] += 1
        examples.setdefault(key, row)
    return [(key, count, examples[key]) for key, count in counted.most_common()], counted.total()


def waited_for(rows: Sequence[Row]) -> dict[str, tuple[list[str], int]]:
    """Return by id what each waiting job still waits for: some of its prerequisites, and their number."""
    by_client: dict[Any, list[str]] = {}
    for row in rows:
        if row.state in (JobState.WAITING, JobState.BLOCKED):
            by_client.setdefault(row.client, []).append(row.id)
    lacking: dict[str, tuple[list[str], int]] = {}
    for client, ids in by_client.items():
        lacking |= prerequisites.some_lacking(client, ids, WAITED_FOR)
    return lacking


def _waits(query: JobQuery, rows: Sequence[Row]) -> Iterator[tuple[list[str], int]]:
    lacked = waited_for(rows)
    return (lacked.get(row.id, ([], 0)) for row in rows)


def _given(request: HttpRequest) -> dict[str, str]:
    return {name: request.GET[name] for name in FILTERS if request.GET.get(name)}


def _grouped(query: JobQuery, by: str) -> dict[str, Any]:
    counted, matched = groups(query, by)
    total = query.total()
    return {"group": by, "grouped": counted, "matched": matched, "looked_at": min(total, GROUPED), "total": total}
