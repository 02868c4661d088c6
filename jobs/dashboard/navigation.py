"""Where a reader came from, and where a page goes on to after a change."""

from typing import Any
from urllib.parse import urlsplit

from django.http import HttpRequest
from django.urls import Resolver404, resolve, reverse
from django.utils.http import url_has_allowed_host_and_scheme
from redis.exceptions import RedisError

from jobs.errors import JobsError
from jobs.inspection import find

LISTS = ("jobs_list", "jobs_queue", "jobs_recurring", "jobs_workers")  # the pages that link to a job


def back(request: HttpRequest, field: str = "next") -> str:
    """Where the form was, if that is here; else the overview."""
    target = str(request.POST.get(field, ""))
    return target if _is_here(request, target) else reverse("admin:jobs_dashboard_changelist")


def came_from(request: HttpRequest) -> str:
    """The list from which the reader came, with its filters: as the address says, or else the browser. "" for none."""
    target = request.GET.get("list") or request.headers.get("Referer", "")
    parts = urlsplit(target) if _is_here(request, target) else None
    try:
        if parts is None or resolve(parts.path).url_name not in LISTS:
            return ""
    except Resolver404:
        return ""
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def landing(request: HttpRequest, job_id: str = "", **about: Any) -> str:
    """Where to go on after an action: back; but no page of a job that has gone by now, then to the list."""
    try:
        is_gone = bool(job_id) and find(job_id) is None
    except (JobsError, RedisError):
        is_gone = False
    return back(request, "list" if is_gone else "next")


def _is_here(request: HttpRequest, target: str) -> bool:
    return url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure())
