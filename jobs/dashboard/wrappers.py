"""Wraps the views: a page of the admin for readers with permission, and a change by POST, confirmed and logged."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from django.contrib import messages
from django.contrib.admin.sites import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from redis.exceptions import RedisError

from jobs.dashboard.navigation import back, came_from, landing
from jobs.dashboard.permissions import Can, may, note
from jobs.errors import JobsError, RedisUnavailableError

_NOT_KEPT = ("csrfmiddlewaretoken", "confirmed")

Screen = tuple[str, dict[str, Any]]  # a template and what it shows


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
            return HttpResponseRedirect(landing(request, **kwargs))
        messages.success(request, done.told)
        note(request, done.told, **kwargs)
        return HttpResponseRedirect(done.url or landing(request, **kwargs))

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
