"""The pages of the machinery: workers, recurring entries, commands."""

from django.http import HttpRequest

from jobs import scheduler, statistics, workers
from jobs.dashboard.access import Screen
from jobs.statistics import HOUR

SPANS = {"hour": HOUR, "day": 24 * HOUR, "3days": 72 * HOUR}
SORTS = {"time": lambda row: row[1].seconds, "failures": lambda row: row[1].failed, "runs": lambda row: row[1].attempts}
MOST_WORKERS = 1_000


def worker_list(request: HttpRequest) -> Screen:
    """The processes, what each runs and since when."""
    found = workers.alive()
    return "workers", {"title": "Workers", "workers": found[:MOST_WORKERS], "count": len(found)}


def recurring(request: HttpRequest) -> Screen:
    """The entries, their next and last runs."""
    entries = scheduler.entries()
    runs = scheduler.histories(entries, 10)
    return "recurring", {"title": "Recurring jobs", "rows": [(entry, runs[entry.id]) for entry in entries]}


def commands(request: HttpRequest) -> Screen:
    """Per command: runs, failures, how long they take; what takes most, or fails most, first."""
    span, sort = request.GET.get("span", "hour"), request.GET.get("sort", "time")
    found = statistics.by_command(SPANS.get(span, HOUR))
    rows = sorted(found.items(), key=SORTS.get(sort, SORTS["time"]), reverse=True)
    return "commands", {
        "title": "Commands",
        "span": span,
        "spans": list(SPANS),
        "sort": sort,
        "sorts": list(SORTS),
        "rows": [
            (command, queue, tally, tally.quantile(0.5), tally.quantile(0.95), tally.quantile(0.99))
            for (queue, command), tally in rows
        ],
    }
