"""The time zone in which a reader sees the pages: the project's, or another one, which a cookie keeps."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from django.conf import settings
from django.contrib import messages
from django.contrib.admin.sites import AdminSite
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.utils import timezone
from django.utils.translation import gettext as _

from jobs.broker.times import DAY
from jobs.dashboard.navigation import back
from jobs.dashboard.permissions import may

COOKIE = "jobs_zone"
KEPT_FOR = 365 * DAY  # seconds


def in_force(request: HttpRequest) -> AbstractContextManager[object]:
    """Return a context in which times are in the zone of the reader's choice, or as they are without one."""
    name = request.COOKIES.get(COOKIE, "")
    return timezone.override(ZoneInfo(name)) if name in _known() else nullcontext()


def offered() -> list[str]:
    """Return the zones that the pages offer; any other can be typed."""
    return list(dict.fromkeys(("UTC", settings.TIME_ZONE)))


def choice(site: AdminSite) -> Callable[..., HttpResponse]:
    """Return the view that keeps the posted zone; an empty one is the project's."""

    def choose(request: HttpRequest) -> HttpResponse:
        request.current_app = site.name
        if not may(request, "view"):
            raise Http404
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        name, response = request.POST.get("zone", "").strip(), HttpResponseRedirect(back(request))
        if not name:
            response.delete_cookie(COOKIE)
        elif name in _known():
            response.set_cookie(
                COOKIE, name, max_age=KEPT_FOR, httponly=True, samesite="Lax", secure=request.is_secure()
            )
        else:
            text = _("Unknown time zone %(name)r. Give an IANA name, such as Europe/Berlin.")
            messages.error(request, text % {"name": name[:100]})
        return response

    return site.admin_view(choose)


@lru_cache
def _known() -> set[str]:
    return available_timezones()
