"""The page of the recurring entries."""

from django.http import HttpRequest
from django.utils.translation import gettext as _

from jobs import scheduler
from jobs.dashboard.wrappers import Screen

ENTRIES = 50  # entries per page
RUNS = 10  # last runs shown for each entry


def recurring(request: HttpRequest) -> Screen:
    """A page of the entries, with their next and last runs."""
    entries, further = scheduler.page(request.GET.get("cursor", ""), ENTRIES)
    runs = scheduler.histories(entries, RUNS)
    rows = [(entry, runs[entry.id]) for entry in entries]
    return "recurring", {"title": _("Recurring jobs"), "rows": rows, "next": further}
