"""Lists of jobs: by state, with filters; the dead and the retrying also grouped."""

from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpRequest

from jobs import conf
from jobs.dashboard.access import Screen
from jobs.inspection import SEARCHED, JobQuery
from jobs.job import JobState
from jobs.rows import Row

SIZE = 25  # rows a page
GROUPED = 2_000  # jobs that are looked at to group them
GROUPABLE = (JobState.DEAD, JobState.RETRYING, JobState.DISCARDED)

# What may be done with jobs of a state, and the permission for it.
ACTIONS = {
    JobState.QUEUED: ("cancel", "delete"),
    JobState.RUNNING: ("cancel",),
    JobState.SCHEDULED: ("run_now", "cancel", "delete"),
    JobState.RETRYING: ("retry", "cancel", "delete"),
    JobState.WAITING: ("run_now", "cancel", "delete"),
    JobState.BLOCKED: ("run_now", "cancel", "delete"),
    JobState.FINISHED: ("delete",),
    JobState.DEAD: ("retry", "delete"),
    JobState.DISCARDED: ("retry", "delete"),
    JobState.CANCELLED: ("retry", "delete"),
}


def jobs(request: HttpRequest, state: str) -> Screen:
    """A page of the jobs in one state that the filters mean."""
    query = query_of(request.GET, state)
    try:
        found = query.page(request.GET.get("cursor", ""), SIZE)
    except ValueError as error:
        raise Http404(str(error)) from error
    group_by = request.GET.get("group", "")
    kept = {name: value for name, value in request.GET.items() if name not in ("cursor", "group") and value}
    return "jobs", {
        "title": f"{state.capitalize()} jobs",
        "state": state,
        "states": [each.value for each in JobState],
        "filters": kept,
        "query": urlencode(kept),
        "next": urlencode({**kept, "cursor": found.next_cursor}) if found.next_cursor else "",
        "page": found,
        "newest_first": query.newest_first,
        "count": query.count(),
        "searched": SEARCHED if query.is_search else 0,
        "queues": list(conf.queues()),
        "actions": ACTIONS[JobState(state)],
        "group": group_by,
        "groups": groups(query, group_by) if group_by in ("error", "command") else None,
        "groupable": query.state in GROUPABLE,
    }


def query_of(given: Mapping[str, Any], state: str) -> JobQuery:
    """The query that a page's address or a form means. Http404 for a state or queue that there is not."""
    try:
        return JobQuery.of(state, given)
    except ValueError as error:
        raise Http404(str(error)) from error


def groups(query: JobQuery, by: str) -> list[tuple[str, int, Row]]:
    """How many jobs of each error or command there are among the first that were looked at, with an example."""
    counted: Counter[str] = Counter()
    examples: dict[str, Row] = {}
    for row in query.all(GROUPED):
        key = (row.error if by == "error" else row.command) or "(none)"
        counted[key] += 1
        examples.setdefault(key, row)
    return [(key, count, examples[key]) for key, count in counted.most_common()]
