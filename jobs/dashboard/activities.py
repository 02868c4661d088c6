"""The page of the activity: what people have changed."""

from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpRequest
from django.utils.translation import gettext as _

from jobs.dashboard.permissions import may
from jobs.dashboard.wrappers import Screen
from jobs.inspection import activity

SHOWN = 50  # changes a page
ON_PAGES = 5  # on the page of a queue
FILTERS = ("who", "what", "queue", "text")


def activities(request: HttpRequest) -> Screen:
    """Who changed what, when and which jobs, the latest first. Http404 without the permission of its own."""
    if not may(request, "activity"):
        raise Http404(_("You do not have permission to view the activity."))
    filters = {name: request.GET[name].strip() for name in FILTERS if request.GET.get(name, "").strip()}
    try:
        changes, cursor = activity.page(SHOWN, request.GET.get("cursor", ""), **filters)
    except ValueError as error:
        raise Http404(str(error)) from error
    return "activity", {
        "title": _("Activity"),
        "filters": filters,
        "activity": changes,
        "next": urlencode({**filters, "cursor": cursor}) if cursor else "",
    }


def of_job(request: HttpRequest, job_id: str) -> list[activity.Change]:
    """Return the changes of one job, for who may view them."""
    return activity.of_job(job_id) if may(request, "activity") else []


def of_queue(request: HttpRequest, queue: str) -> list[activity.Change]:
    """Return the last changes of one queue and its jobs, for who may view them."""
    return activity.page(ON_PAGES, queue=queue)[0] if may(request, "activity") else []


def as_dict(change: activity.Change) -> dict[str, Any]:
    """Return a change for JSON."""
    names = ("at", "who", "what", "text", "subject", "queue", "state", "count")
    return {name: getattr(change, name) for name in names} | {"filters": dict(change.filters), "ids": list(change.ids)}
