"""Who may see what and do what: Django's permissions. What is done is written to the admin's log."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.sites import AdminSite
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import Resolver404, resolve, reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from redis.exceptions import RedisError

from jobs.errors import JobsError, RedisUnavailableError
from jobs.inspection import find
from jobs.models import Dashboard

PERMISSIONS = {
    "view": "jobs.view_dashboard",
    "retry": "jobs.retry_job",
    "delete": "jobs.delete_job",
    "cancel": "jobs.cancel_job",
    "pause": "jobs.pause_queue",
    "workers": "jobs.control_workers",
    "payloads": "jobs.view_payloads",
}

LISTS = ("jobs_list", "jobs_queue", "jobs_recurring", "jobs_workers")  # pages from which one comes to a job

_NOT_KEPT = ("csrfmiddlewaretoken", "confirmed")

Screen = tuple[str, dict[str, Any]]  # a template and what it shows


class Can:
    """In templates: `{% if can.retry %}`."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request

    def __getitem__(self, what: str) -> bool:
        return may(self._request, what)


def may(request: HttpRequest, what: str) -> bool:
    """Whether the user has the permission that `what` stands for."""
    return request.user.has_perm(PERMISSIONS[what])


def page(site: AdminSite, view: Callable[..., Screen | HttpResponse]) -> Callable[..., HttpResponse]:
    """
    A page for who may view the dashboard; for others there is none (404). Without a server, or a record of what it was
    to show, it says so. A view whose page is none of the admin's answers by itself.
    """

    @wraps(view)
    def wrapped(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        if not may(request, "view"):
            raise Http404
        status = 200
        try:
            shown = view(request, **kwargs)
        except (RedisUnavailableError, RedisError) as error:
            shown = "problem", {"title": _("Background jobs"), "problem": str(error), "away": True}
        except Http404 as error:
            told = {"title": _("Not found"), "problem": str(error), "list": came_from(request)}
            shown, status = ("problem", told), 404
        if isinstance(shown, HttpResponse):
            return shown
        template, context = shown
        whole = "jobs/dashboard/part.html" if getattr(request, "htmx", False) else "jobs/dashboard/base.html"
        known = {**site.each_context(request), "can": Can(request), "whole": whole, "path": request.get_full_path()}
        return TemplateResponse(request, f"jobs/dashboard/{template}.html", {**known, **context}, status=status)

    return site.admin_view(wrapped)


@dataclass(frozen=True, slots=True)
class Done:
    """What an action did, in a sentence; and where to go on, if not where the form was."""

    told: str
    url: str = ""


def action(
    site: AdminSite, what: str, change: Callable[..., Done], ask: Callable[..., str] | None = None
) -> Callable[..., HttpResponse]:
    """
    A change by POST, for who has the permission (else 403). What it did is shown and logged; an error is shown.

    `ask` returns the question that a page puts first, or nothing where the form is enough; the page's own form says
    `confirmed`. It takes what `change` takes.
    """

    @wraps(change)
    def wrapped(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        if not may(request, "view"):
            raise Http404
        if not may(request, what):
            raise PermissionDenied
        if request.method != "POST":
            return _unchanged(site, request)
        try:
            question = ask(request, **kwargs) if ask and not request.POST.get("confirmed") else ""
            if question:
                return confirmation(site, request, question)
            done = change(request, **kwargs)
        except (JobsError, RedisError) as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(_landing(request, **kwargs))
        messages.success(request, done.told)
        note(request, done.told, **kwargs)
        return HttpResponseRedirect(done.url or _landing(request, **kwargs))

    return site.admin_view(wrapped)


def _unchanged(site: AdminSite, request: HttpRequest) -> HttpResponse:
    """Who was logged out meanwhile comes here after logging in again, and with no form."""
    known = {**site.each_context(request), "title": _("Nothing was changed"), "whole": "jobs/dashboard/base.html"}
    return TemplateResponse(request, "jobs/dashboard/unchanged.html", known, status=405, headers={"Allow": "POST"})


def confirmation(site: AdminSite, request: HttpRequest, question: str) -> HttpResponse:
    """The page that asks: its form is the one that was sent, and says that it is meant."""
    kept = [(name, value) for name, values in request.POST.lists() for value in values if name not in _NOT_KEPT]
    context = {
        "title": _("Are you sure?"),
        "question": question,
        "kept": kept,
        "back": back(request),
        "action": request.path,
    }
    known = {**site.each_context(request), "can": Can(request), "whole": "jobs/dashboard/base.html"}
    return TemplateResponse(request, "jobs/dashboard/confirm.html", {**known, **context})


def note(request: HttpRequest, done: str, **about: Any) -> None:
    """Write to the admin's log who did what."""
    subject = " ".join(str(value) for value in about.values()) or "jobs"
    LogEntry.objects.create(
        user_id=request.user.pk or 0,
        content_type_id=ContentType.objects.get_for_model(Dashboard).pk,
        object_id=subject[:200],
        object_repr=subject[:200],
        action_flag=CHANGE,
        change_message=done,
    )


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


def _landing(request: HttpRequest, job_id: str = "", **about: Any) -> str:
    """Where to go on after an action: back; but no page of a job that has gone by now, then to the list."""
    try:
        is_gone = bool(job_id) and find(job_id) is None
    except (JobsError, RedisError):
        is_gone = False
    return back(request, "list" if is_gone else "next")


def _is_here(request: HttpRequest, target: str) -> bool:
    return url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure())
