"""The list from which the user came, and the page to which a change redirects."""

from typing import Any
from urllib.parse import quote, urlsplit

from django.http import HttpRequest
from django.urls import Resolver404, get_script_prefix, resolve, reverse
from django.utils.http import url_has_allowed_host_and_scheme
from redis.exceptions import RedisError

from jobs.dashboard.converters import NameConverter
from jobs.errors import JobsError
from jobs.inspection import find

SAFE = "!$&'()*+,;=/~:@"  # as `reverse` leaves them
# Pages that link to a job.
LISTS = (
    *("jobs_list", "jobs_queue", "jobs_recurring", "jobs_limits", "jobs_workers"),
    *("jobs_search", "jobs_command", "jobs_activity"),
)


def address(request: HttpRequest, name: str, *args: str) -> str:
    """Return the address of a page of the admin site that serves the request. NoReverseMatch if it has none."""
    return reverse(f"admin:{name}", args=args, current_app=getattr(request, "current_app", None))


def below(overview: str, *parts: str) -> str:
    """Return the address of a page below the overview's, as `reverse` does, which is too slow for a long table."""
    return overview + "".join(f"{quote(NameConverter().to_url(part), SAFE)}/" for part in parts)


def back(request: HttpRequest, field: str = "next") -> str:
    """Return the address of the form's page if it is on this site, else the overview."""
    target = str(request.POST.get(field, ""))
    return target if _is_here(request, target) else address(request, "jobs_dashboard_changelist")


def came_from(request: HttpRequest) -> str:
    """Return the list from which the user came, with its filters, by the address or the Referer; else ""."""
    target = request.GET.get("list") or request.headers.get("Referer", "")
    parts = urlsplit(target) if _is_here(request, target) else None
    try:
        if parts is None or resolve(_below_prefix(parts.path)).url_name not in LISTS:
            return ""
    except Resolver404:
        return ""
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def landing(request: HttpRequest, job_id: str = "", **about: Any) -> str:
    """Return the address after an action: the form's page, or the list if the job of that page no longer exists."""
    try:
        is_gone = bool(job_id) and find(job_id) is None
    except (JobsError, RedisError):
        is_gone = False
    return back(request, "list" if is_gone else "next")


def _below_prefix(path: str) -> str:
    """Return the path without the prefix of a site below a path, as `resolve` takes it."""
    prefix = get_script_prefix()
    return f"/{path.removeprefix(prefix)}" if path.startswith(prefix) else path


def _is_here(request: HttpRequest, target: str) -> bool:
    return url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure())
