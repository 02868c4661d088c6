"""The two ways in which a page gets the next part: it asks for it (htmx), or the server sends it (ASGI)."""

import time
from collections.abc import AsyncIterator

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_not_required
from django.core.handlers.asgi import ASGIRequest
from django.db import DatabaseError, connections
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe
from redis.exceptions import RedisError

from jobs.errors import JobsError
from jobs.job import JobState, MandateJob
from jobs.live import links
from jobs.live.links import Link
from jobs.live.part import Shown, is_settled, look, render
from jobs.waits import waiting

LOOK_EVERY = 2.0  # seconds between two looks at a job that neither reports nor ends
LONGEST = 300.0  # seconds after which a stream ends, and the browser opens the next
SILENT = 15.0  # seconds without an event after which a comment is sent, so that proxies keep the connection

ERRORS = (RedisError, JobsError, DatabaseError)


@login_not_required
@require_safe
def part(request: HttpRequest, token: str) -> HttpResponse:
    """The part of the page. 503 while Redis or the outbox does not answer: htmx leaves the page, and asks again."""
    link = links.read(token)
    try:
        shown = look(link.job)
        is_over = is_settled(shown, link.job, refreshes=link.refreshes)
    except ERRORS:
        return HttpResponse(_("Not known just now."), status=503, headers={"Cache-Control": "no-store"})
    response = HttpResponse(render(shown, "" if is_over else request.path))
    response["Cache-Control"] = "no-store"
    if is_over and link.refreshes:
        response["HX-Refresh"] = "true"
    return response


@login_not_required
async def events(request: HttpRequest, token: str) -> HttpResponseBase:
    """The parts, as they change, as server-sent events: `part`, at last `end`. Http404 where there is no ASGI."""
    link = links.read(token)
    if not isinstance(request, ASGIRequest):
        raise Http404("Server-sent events need ASGI.")
    response = StreamingHttpResponse(_stream(link), content_type="text/event-stream")
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"  # of nginx
    response["Content-Encoding"] = "identity"  # GZipMiddleware would hold events back
    return response


async def _stream(link: Link) -> AsyncIterator[str]:
    yield "retry: 1000\n\n"
    last, sent_at, job = "", time.monotonic(), link.job
    until = sent_at + LONGEST
    while time.monotonic() < until:
        try:
            shown = await _look(link)
            job.is_written = shown.state is not JobState.UNSENT  # a wait would take an unsent job for a forgotten one
        except ERRORS:
            shown = None
        if shown is not None and (html := render(shown)) != last:
            last, sent_at = html, time.monotonic()
            yield _event("part", html)
        if shown is not None and shown.is_over:
            yield _event("end", "refresh" if link.refreshes else "")
            return
        if time.monotonic() > sent_at + SILENT:
            sent_at = time.monotonic()
            yield ":\n\n"
        await waiting.change(job, LOOK_EVERY)


async def _look(link: Link) -> Shown:
    return await sync_to_async(_look_alone, thread_sensitive=False)(link.job)


def _look_alone(job: MandateJob) -> Shown:
    """Look, in a thread of a pool, whose connections to a database nobody else checks or closes."""
    try:
        return look(job)
    finally:
        connections.close_all()


def _event(name: str, data: str) -> str:
    lines = "".join(f"data: {line}\n" for line in data.splitlines() or [""])
    return f"event: {name}\n{lines}\n"
