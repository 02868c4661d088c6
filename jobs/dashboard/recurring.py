"""The page of the recurring entries."""

from django.http import HttpRequest
from django.utils.translation import gettext as _

from jobs import scheduler
from jobs.dashboard.wrappers import Screen

ENTRIES = 50  # a page
RUNS = 10  # of each entry, the last ones


def recurring(request: HttpRequest) -> Screen:
    """The entries, their next and last runs; a page of them."""
    entries, further = scheduler.page(request.GET.get("cursor", ""), ENTRIES)
    runs = scheduler.histories(entries, RUNS)
    shown = [(entry, runs[entry.id]) for entry in entries]
    return "recurring", {"title": _("Recurring jobs"), "rows": shown, "next": further}
