"""The page of the recurring entries."""

from django.http import HttpRequest
from django.utils.translation import gettext as _

from jobs import scheduler
from jobs.dashboard.wrappers import Screen

ENTRIES = 25  # entries per page
RUNS = 10  # last runs shown for each entry


def recurring(request: HttpRequest) -> Screen:
    """A page of the entries, with their next and last runs; of the one that `times` names with its next five."""
    cursor = request.GET.get("cursor", "")
    entries, further = scheduler.page(cursor, ENTRIES)
    runs = scheduler.histories(entries, RUNS)
    rows = [(entry, runs[entry.id]) for entry in entries]
    shown = {"rows": rows, "next": further, "cursor": cursor, "times": request.GET.get("times", "")}
    return "recurring", {"title": _("Recurring jobs"), **shown}
