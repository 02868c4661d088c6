"""
The content service, from which the texts of exercises come, and its errors.

`GET <EXERCISES_API_URL>/<slug>` answers with a JSON object: `title`, `text`, and optionally `starter`. The checks of
an exercise are code that we run, so they never come from the service.

`GET <EXERCISES_API_URL>/courses/<slug>` answers with `title` and `lessons`, a list of slugs; below it, each lesson with
`title` and `text`.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import orjson
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from jiki.models import Exercise, ExerciseSource
from jiki.tasks import renew_listing

if TYPE_CHECKING:
    import httpx

PATIENCE = 10.0  # seconds to connect, to send, and between two pieces of an answer
LONGEST = 30.0  # seconds that a whole answer may take
MOST = 1_000_000  # bytes of an answer
LESSONS = 1_000  # of a course
WAIT, LONGEST_WAIT = 60.0, 86_400.0  # seconds to wait without a usable Retry-After, and at most

TEMPORARY = {408, 425, 502, 503, 504}
GONE = {404, 410}


class ContentError(Exception):
    """The base class. Raised itself for a fault of the service that may pass, such as a 500."""


class BusyError(ContentError):
    """Raised when the service asks to wait for `seconds`."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class TemporaryError(ContentError):
    """Raised when no complete answer came: no connection, a broken one, an overloaded service."""


class NoSuchExerciseError(ContentError):
    """Raised when the service does not have the exercise."""


class RefusedError(ContentError):
    """Raised when the service will not answer until settings are changed, here or there."""


class UnusableAnswerError(ContentError):
    """Raised when an answer cannot be used as an exercise."""


@dataclass(frozen=True)
class Texts:
    """The service's texts of an exercise: values of its fields, and the validators for a conditional request."""

    values: Mapping[str, str]
    etag: str
    last_modified: str


def fetch(exercise: Exercise) -> Texts | None:
    """
    Fetch the texts of an exercise from the service. Return None if they are unchanged since the last fetch.

    Raises only the errors above, whatever the service does.
    """
    source = ExerciseSource.objects.filter(exercise=exercise).first() or ExerciseSource()
    headers = {}
    if source.etag:
        headers["If-None-Match"] = source.etag
    if source.last_modified:
        headers["If-Modified-Since"] = source.last_modified
    answer = _get(exercise.slug, headers)
    if answer is None:
        return None
    body, validators = answer
    return Texts(_texts(body), *validators)


def fetch_course(slug: str) -> str:
    """Fetch a course: its title, and the slugs of its lessons, as JSON. Raises only the errors above."""
    return _read(f"courses/{slug}")


def fetch_lesson(course: str, slug: str) -> dict[str, str]:
    """Fetch the title and the text of a course's lesson. Raises only the errors above."""
    fields = _object(_read(f"courses/{course}/{slug}"))
    return {name: _text(fields, name) for name in ("title", "text")}


def parse_course(text: str) -> tuple[str, list[str]]:
    """Return the title of a course, and the slugs of its lessons in order. Raises UnusableAnswerError."""
    fields = _object(text)
    slugs = fields.get("lessons")
    if not isinstance(slugs, list) or not slugs or not all(isinstance(each, str) for each in slugs):
        raise UnusableAnswerError("The course has no list of slugs as 'lessons'.")
    if len(slugs) > LESSONS:
        raise UnusableAnswerError(f"The course has {len(slugs):,} lessons, over {LESSONS:,}.")
    field = Exercise._meta.get_field("slug")
    try:
        for slug in slugs:
            field.clean(slug, None)
    except ValidationError:
        raise UnusableAnswerError(
            f"The course has {slug[:100]!r} as a lesson, which is no slug of at most {field.max_length} characters."
        ) from None
    return _text(fields, "title"), list(dict.fromkeys(slugs))


def take(exercise: Exercise, texts: Texts) -> None:
    """Save the texts and their validators, all or nothing, and no other field."""
    for field, value in texts.values.items():
        setattr(exercise, field, value)
    validators = {"etag": texts.etag, "last_modified": texts.last_modified, "fetched_at": timezone.now()}
    with transaction.atomic():
        exercise.save(update_fields=[*texts.values, "updated_at"])
        ExerciseSource.objects.update_or_create(exercise=exercise, defaults=validators)
        renew_listing()


def _get(path: str, validators: Mapping[str, str]) -> tuple[bytes, tuple[str, str]] | None:
    """Return the body of an answer and its validators; None if nothing has changed since `validators`."""
    if not settings.EXERCISES_API_URL:
        raise RefusedError("There is no content service: EXERCISES_API_URL is not set.")
    url = f"{settings.EXERCISES_API_URL.rstrip('/')}/{path}"
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", **validators}
    if settings.EXERCISES_API_TOKEN:
        headers["Authorization"] = f"Bearer {settings.EXERCISES_API_TOKEN}"
    until = time.monotonic() + LONGEST
    import httpx  # here: 7 MB in every worker and web process, for one job a day

    try:
        with httpx.stream("GET", url, headers=headers, timeout=PATIENCE, follow_redirects=False) as response:
            if response.status_code == 304 and validators:
                return None
            _demand_success(response)
            body = _body(response, until)
    except httpx.TransportError as error:
        raise TemporaryError(f"{type(error).__name__}: {error}") from error
    return body, (_header(response, "ETag"), _header(response, "Last-Modified"))


def _read(path: str) -> str:
    answer = _get(path, {})
    assert answer is not None  # noqa: S101  # nothing is unchanged without validators
    try:
        return answer[0].decode()
    except UnicodeDecodeError:
        raise UnusableAnswerError("The answer is not UTF-8.") from None


def _demand_success(response: "httpx.Response") -> None:
    status, text = response.status_code, f"{_address(response)} answered {response.status_code}."
    retry_after = response.headers.get("Retry-After")
    if status == 429 or (status == 503 and retry_after is not None):
        raise BusyError(text, seconds(retry_after))
    if status in TEMPORARY:
        raise TemporaryError(text)
    if status in GONE:
        raise NoSuchExerciseError(f"{text} It does not have this exercise.")
    if response.has_redirect_location:
        raise RefusedError(
            f"{text} It redirects to {response.headers['Location'][:200]!r}; redirects are not followed. "
            "Set EXERCISES_API_URL to the service's address."
        )
    if 400 <= status < 500:
        raise RefusedError(f"{text} Check EXERCISES_API_URL and EXERCISES_API_TOKEN.")
    if status >= 500:
        raise ContentError(text)
    if status != 200:
        raise UnusableAnswerError(f"{text} It should be 200.")
    if (encoding := response.headers.get("Content-Encoding", "identity")) != "identity":
        raise UnusableAnswerError(f"{_address(response)} is encoded as {encoding[:20]!r}, which was not requested.")


def _body(response: "httpx.Response", until: float) -> bytes:
    body = bytearray()
    for piece in response.iter_raw():
        body += piece
        if len(body) > MOST:
            raise UnusableAnswerError(f"{_address(response)} answered with more than {MOST:,} bytes.")
        if time.monotonic() > until:
            raise TemporaryError(f"{_address(response)} took longer than {LONGEST:g} s to answer.")
    return bytes(body)


def _texts(body: bytes) -> dict[str, str]:
    fields = _object(body)
    names = ("title", "text", "starter") if "starter" in fields else ("title", "text")
    values = {name: _text(fields, name) for name in names}
    try:
        Exercise(**values).clean_fields(exclude={"slug", "checks", "position"})
    except ValidationError as error:
        raise UnusableAnswerError(f"The answer cannot be an exercise: {error.message_dict}.") from None
    return values


def _object(body: bytes | str) -> dict[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnusableAnswerError(f"The answer is not JSON: {error}.") from None
    if not isinstance(fields, dict):
        raise UnusableAnswerError("The answer is not a JSON object.")
    return fields


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or "\0" in value:
        raise UnusableAnswerError(f"The answer has no text as {name!r}.")
    return value


def _address(response: "httpx.Response") -> str:
    """Return the address without the password that a URL may contain."""
    return f"{response.url.host}{response.url.path}"


def _header(response: "httpx.Response", name: str) -> str:
    """Return a header to store; "" if it is missing, or longer than 100 characters."""
    value: str = response.headers.get(name, "")
    return value if len(value) <= 100 else ""


def seconds(retry_after: str | None) -> float:
    """Return the seconds of a Retry-After, which has seconds or a date (RFC 9110, 10.2.3); WAIT if it is invalid."""
    try:
        if retry_after is None:
            wait = WAIT
        elif retry_after.isdecimal():
            wait = float(retry_after)
        else:
            wait = (parsedate_to_datetime(retry_after) - timezone.now()).total_seconds()
    except (ValueError, TypeError):  # TypeError: a date without a time zone
        wait = WAIT
    return min(max(wait, 1.0), LONGEST_WAIT)
