"""
The limits of a submission, enforced while the request is read.

The rest of a refused request is read and dropped, because a browser shows no answer before it has sent everything. It
is never stored, in memory or on disk.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent
from django.core.files.uploadhandler import (
    FileUploadHandler,
    MemoryFileUploadHandler,
    StopUpload,
    TemporaryFileUploadHandler,
)
from django.http import HttpRequest, UnreadablePostError
from django.http.multipartparser import MultiPartParser, MultiPartParserError

MOST_FILES = 20
MOST_BYTES = 100_000  # of a file
MOST_ALTOGETHER = MOST_FILES * MOST_BYTES + 1_000_000  # bytes of a request
MOST_DROPPED = 200_000_000  # bytes of a refused request that are read
TOO_MUCH = f"That is too much at once. A submission has {MOST_FILES} files at most, of {MOST_BYTES // 1000} kB each."
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,99}")
NAMES = "a plain name of letters, digits, - and _, without a folder"


class Parser(MultiPartParser):
    """Django's parser, but it refuses a file name with a folder: Django would shorten it to another name."""

    bounds: "Bounds"

    def sanitize_file_name(self, file_name: str) -> str | None:
        if not NAME.fullmatch(file_name):
            _refuse(self.bounds, f"Not an allowed file name: {file_name[:100]!r}. Use {NAMES}.")
        return super().sanitize_file_name(file_name)


class Bounds(FileUploadHandler):
    """Counts files and bytes, and stores the reason of a refusal."""

    refused = ""
    count = 0

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        self.count += 1
        if self.count > MOST_FILES:
            _refuse(self, f"That is more than {MOST_FILES} files. Send only those that the exercise needs.")

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes:
        if start + len(raw_data) > MOST_BYTES:
            _refuse(self, f"{self.file_name} is larger than {MOST_BYTES // 1000} kB.")
        return raw_data

    def file_complete(self, file_size: int) -> None:
        return None  # the next handler stores the file


View = TypeVar("View", bound=Callable[..., Any])


def reads_its_own_body(view: View) -> View:
    """Mark a view that limits its requests with `read`, so that the limit of all other pages does not apply."""
    view.reads_its_own_body = True  # type: ignore[attr-defined]
    return view


def read(request: HttpRequest) -> str:
    """Parse the request's form. Return the reason of a refusal, or ""."""
    if _is_too_large(request):
        _drop_rest(request)
        return TOO_MUCH
    bounds = Bounds(request)
    request.upload_handlers = [bounds, MemoryFileUploadHandler(request), TemporaryFileUploadHandler(request)]

    def parse(meta: Any, data: Any) -> Any:
        parser = Parser(meta, data, request.upload_handlers, request.encoding)
        parser.bounds = bounds
        return parser.parse()

    request.parse_file_upload = parse  # type: ignore[assignment, method-assign]
    try:
        request.POST  # noqa: B018
    except (RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent):
        _drop_rest(request)
        return TOO_MUCH
    except (MultiPartParserError, UnreadablePostError):
        return "The upload did not arrive complete. Please send it again."
    if bounds.refused:
        _drop_rest(request)
    return bounds.refused


def drop(request: HttpRequest) -> None:
    """Read and drop the body, so that the connection can be used again; not if it is too large."""
    if not _is_too_large(request):
        _drop_rest(request)


def _is_too_large(request: HttpRequest) -> bool:
    return int(request.META.get("CONTENT_LENGTH") or 0) > MOST_ALTOGETHER


def _refuse(bounds: Bounds, message: str) -> NoReturn:
    bounds.refused = message
    raise StopUpload(connection_reset=True)  # otherwise Django drops the rest line by line, and a line may have 100 MB


def _drop_rest(request: HttpRequest) -> None:
    dropped = 0
    with suppress(OSError):
        while dropped < MOST_DROPPED and (some := request.read(1 << 16)):
            dropped += len(some)
