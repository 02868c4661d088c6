"""Who may see what and do what: Django's permissions. What is done is written to the admin's log."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.sites import AdminSite
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from redis.exceptions import RedisError

from jobs.errors import JobsError, RedisUnavailableError
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


def page(site: AdminSite, view: Callable[..., Screen]) -> Callable[..., HttpResponse]:
    """A page for who may view the dashboard; for others there is none (404). Without a server it says so."""

    @wraps(view)
    def wrapped(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        if not may(request, "view"):
            raise Http404
        try:
            template, context = view(request, **kwargs)
        except (RedisUnavailableError, RedisError) as error:
            template, context = "problem", {"title": "Background jobs", "problem": str(error)}
        whole = "jobs/dashboard/part.html" if getattr(request, "htmx", False) else "jobs/dashboard/base.html"
        known = {**site.each_context(request), "can": Can(request), "whole": whole, "path": request.get_full_path()}
        return TemplateResponse(request, f"jobs/dashboard/{template}.html", {**known, **context})

    return site.admin_view(wrapped)


def action(site: AdminSite, what: str, change: Callable[..., str]) -> Callable[..., HttpResponse]:
    """
    A change by POST, for who has the permission (else 403). `change` returns what it did, in a sentence, which is shown
    and logged; an error of its own is shown. A POST with the question `ask` is answered by that question, on a page.
    """

    @wraps(change)
    def wrapped(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        if not may(request, "view"):
            raise Http404
        if not may(request, what):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if "ask" in request.POST:
            return _ask(site, request)
        try:
            done = change(request, **kwargs)
        except (JobsError, RedisError) as error:
            messages.error(request, str(error))
        else:
            messages.success(request, done)
            note(request, done, **kwargs)
        return HttpResponseRedirect(back(request))

    return site.admin_view(wrapped)


def _ask(site: AdminSite, request: HttpRequest) -> HttpResponse:
    """The question that a script would have asked in a dialog. Its form posts the same again, without `ask`."""
    question, number = request.POST["ask"], request.POST.get("all") or str(len(request.POST.getlist("job")))
    if "{n}" in question and number == "0":
        messages.warning(request, "No job is selected.")
        return HttpResponseRedirect(back(request))
    fields = [(name, value) for name, values in request.POST.lists() for value in values]
    context = {
        **site.each_context(request),
        "title": "Are you sure?",
        "question": question.replace("{n}", number),
        "fields": [(name, value) for name, value in fields if name not in ("ask", "csrfmiddlewaretoken")],
        "back": back(request),
    }
    return TemplateResponse(request, "jobs/dashboard/confirm.html", context)


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


def back(request: HttpRequest) -> str:
    """Where the form was, if that is here; else the overview."""
    target = str(request.POST.get("next", ""))
    if url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure()):
        return target
    return reverse("admin:jobs_dashboard_changelist")
