"""`{% load jobs %}`: the tag for a project's own pages."""

from typing import Any

from django import template
from django.core.handlers.asgi import ASGIRequest
from django.template import Context
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString
from redis.exceptions import RedisError

from jobs.errors import JobsError
from jobs.inspection import find
from jobs.job import MandateJob
from jobs.live import part
from jobs.live.links import Link

ERRORS = (RedisError, JobsError)

register = template.Library()


@register.simple_tag(takes_context=True)
def job_progress(context: Context, job: MandateJob | str | None, refresh: bool = False) -> SafeString | str:
    """
    Show how far a job is, and follow it: by server-sent events where the project serves ASGI, else by htmx, which the
    page has to load. The part is behind a signed link, which shows this job and nothing else.

    `job`: what `defer` returned, or its id; None and "" show nothing. `refresh`: load the page anew when the job has
    ended, also if it ends while the page is made.

    Raises ImproperlyConfigured if the project does not include `jobs.live.urls`.
    """
    if not job:
        return ""
    try:
        found = job if isinstance(job, MandateJob) else find(str(job))
    except ERRORS:  # the page is worth more than this part of it
        return ""
    if found is None:
        return _place(part.render(part.NOTHING))
    link = Link(found.id, found.origin, bool(refresh))
    try:
        shown = part.look(found)
        is_settled = part.is_settled(shown, found, refreshes=link.refreshes)
    except ERRORS:  # the next part may know more
        shown, is_settled = part.UNKNOWN, False
    if is_settled:
        return _place(part.render(shown))
    if isinstance(context.get("request"), ASGIRequest):
        events = format_html(' data-jobs-events="{}"', link.url("jobs_progress_events"))
        return _place(part.render(shown), events) + _script(context.get("csp_nonce"))
    return _place(part.render(shown, link.url("jobs_progress")))


def _place(html: SafeString, attributes: SafeString | str = "") -> SafeString:
    """Return the place of the part on the page: it stays, so that screen readers hear of changes in it."""
    return format_html('<div class="jobs-live" role="status"{}>{}</div>', attributes, html)


def _script(nonce: Any) -> SafeString:
    with_nonce = format_html(' nonce="{}"', nonce) if nonce else ""
    return format_html('<script src="{}" defer{}></script>', static("jobs/progress.js"), with_nonce)
