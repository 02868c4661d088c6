"""Wrappers of the views: a page of the admin, and a change by POST; both check permissions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

from django.contrib import messages
from django.contrib.admin.sites import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from redis.exceptions import RedisError

from jobs.dashboard import texts, zones
from jobs.dashboard.navigation import back, came_from, landing
from jobs.dashboard.permissions import Can, may, note
from jobs.errors import JobsError, RedisUnavailableError
from jobs.inspection.activity import Change
from jobs.inspection.search import SearchError

_NOT_KEPT = ("csrfmiddlewaretoken", "confirmed")

Screen = tuple[str, dict[str, Any]]  # the name of a template, and its context


def page(site: AdminSite, view: Callable[..., Screen | HttpResponse]) -> Callable[..., HttpResponse]:
    """
    Wrap a view as an admin page. 404 without permission; an error page if the record is missing (404) or
    Redis does not answer (503). Times are in the zone of the reader's choice.

    A view that returns an HttpResponse instead of a Screen is not put into an admin page.
    """

    @wraps(view)
    def wrapped(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        request.current_app = site.name
        if not may(request, "view"):
            raise Http404
        with zones.in_force(request):
            response = screen(request, **kwargs)
            if isinstance(response, TemplateResponse):
                response.render()
            return response

    def screen(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        status = 200
        try:
            shown = view(request, **kwargs)
        except (RedisUnavailableError, RedisError) as error:
            shown = "problem", {"title": _("Background jobs"), "problem": texts.outage(error), "away": True}
            status = 503
        except Http404 as error:
            context = {"title": _("Not found"), "problem": str(error), "list": came_from(request)}
            shown, status = ("problem", context), 404
        except SearchError as error:
            shown, status = ("problem", {"title": _("Search"), "problem": str(error)}), 400
        if isinstance(shown, HttpResponse):
            return shown
        template, context = shown
        is_refresh = request.headers.get("HX-Request") == "true"
        whole = "jobs/dashboard/part.html" if is_refresh else "jobs/dashboard/base.html"
        common = {**site.each_context(request), "can": Can(request), "whole": whole, "path": request.get_full_path()}
        common |= {"q": request.GET.get("q", "")}
        common |= {"zone": timezone.get_current_timezone_name(), "zones": zones.offered()}
        return TemplateResponse(request, f"jobs/dashboard/{template}.html", {**common, **context}, status=status)

    return site.admin_view(wrapped)


@dataclass(frozen=True, slots=True)
class Done:
    """The result of an action: a sentence, and the address to redirect to, if not the form's page."""

    text: str
    url: str = ""
    is_noted: bool = True  # False for what concerns the user alone
    change: Change | None = None  # for the activity: which jobs of a list, and how many
    ids: Sequence[str] = ()  # of the changed jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A confirmation page: the question, the verb on its button, what follows, and what the change concerns."""

    text: str
    verb: str
    is_danger: bool = False
    note: str = ""
    filters: Sequence[tuple[str, str]] = ()
    parts: Sequence[tuple[str, Sequence[tuple[str, int]]]] = ()  # a heading, and names with their numbers
    looked_at: int = 0  # jobs among which `parts` are counted; 0: all
    samples: Sequence[tuple[str, str, str]] = ()  # id, call and reason


def action(
    site: AdminSite, what: str, change: Callable[..., Done], ask: Callable[..., Question | None] | None = None
) -> Callable[..., HttpResponse]:
    """
    Wrap a change as a view for POST. 404 without permission to view, 403 without permission for the change.

    The result is shown and logged; an error is shown. `ask` takes the arguments of `change`. It returns the question of
    a confirmation page, or None if none is needed. The form of that page has `confirmed` set.
    """

    @wraps(change)
    def wrapped(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        request.current_app = site.name
        if not may(request, "view"):
            raise Http404
        if not may(request, what):
            raise PermissionDenied
        if request.method != "POST":
            return _unchanged(site, request)
        try:
            with zones.in_force(request):
                return act(request, **kwargs)
        except (JobsError, RedisError) as error:
            messages.error(request, texts.outage(error))
            return HttpResponseRedirect(landing(request, **kwargs))

    def act(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        question = ask(request, **kwargs) if ask and not request.POST.get("confirmed") else None
        if question is not None:
            return confirmation(site, request, question)
        done = change(request, **kwargs)
        messages.success(request, done.text)
        if done.is_noted:
            note(request, done.text, done.change, done.ids, **kwargs)
        return HttpResponseRedirect(done.url or landing(request, **kwargs))

    return site.admin_view(wrapped)


def _unchanged(site: AdminSite, request: HttpRequest) -> HttpResponse:
    """The page for a GET: after a log-in the browser comes here without the form's data."""
    context = {**site.each_context(request), "title": _("Nothing was changed"), "whole": "jobs/dashboard/base.html"}
    return TemplateResponse(request, "jobs/dashboard/unchanged.html", context, status=405, headers={"Allow": "POST"})


def confirmation(site: AdminSite, request: HttpRequest, asked: Question) -> HttpResponse:
    """The confirmation page: it submits the same form again, with `confirmed` set."""
    kept = [(name, value) for name, values in request.POST.lists() for value in values if name not in _NOT_KEPT]
    context = {
        "title": _("Are you sure?"),
        "question": asked.text,
        "asked": asked,
        "kept": kept,
        "back": back(request),
        "action": request.path,
    }
    common = {**site.each_context(request), "can": Can(request), "whole": "jobs/dashboard/base.html"}
    return TemplateResponse(request, "jobs/dashboard/confirm.html", {**common, **context})
