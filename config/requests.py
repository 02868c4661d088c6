"""
The bounds of every request, applied before anything reads its body: it is UTF-8, small, and has no files.

A view with the attribute `reads_its_own_body` limits its body itself, and must know the user before it reads.
"""

from collections.abc import Callable, Mapping
from typing import Any

from django.core.files.uploadhandler import FileUploadHandler, SkipFile
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.deprecation import MiddlewareMixin

MOST_BYTES = 3_000_000  # of a request's body; DATA_UPLOAD_MAX_MEMORY_SIZE limits its fields to 2.5 MB


class RequestBoundsMiddleware(MiddlewareMixin):
    """Put it before every middleware that reads `request.GET` or `request.POST`."""

    def process_request(self, request: HttpRequest) -> None:
        """Ignore the charset of the request: some of Python's decoders take minutes for 2 MB, others raise."""
        if request.encoding is not None:
            request.encoding = "utf-8"

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: Any
    ) -> HttpResponse | None:
        """Return a 413 for a body that is too large. It is not read."""
        if length(request) <= MOST_BYTES or getattr(view, "reads_its_own_body", False):
            return None
        return render(request, "413.html", status=413)


class _AnyContentType:
    """A request with a Content-Type that Django cannot parse, as `boundary*=no-such''b`: it has none, and no form."""

    def _set_content_type_params(self, meta: Mapping[str, Any]) -> None:
        try:
            super()._set_content_type_params(meta)  # type: ignore[misc]
        except ValueError:
            super()._set_content_type_params({})  # type: ignore[misc]


class WebRequest(_AnyContentType, WSGIRequest):
    """The request of `config.wsgi`."""


class AsyncWebRequest(_AnyContentType, ASGIRequest):
    """The request of `config.asgi`."""


class NoFiles(FileUploadHandler):
    """Drops uploaded files. The only handler of FILE_UPLOAD_HANDLERS: views that take files set their own handlers."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        raise SkipFile

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        return None

    def file_complete(self, file_size: int) -> None:
        return None


def length(request: HttpRequest) -> int:
    """Return the Content-Length in bytes; 0 if there is none, since then no body is read."""
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0
