"""
The content service, from which the texts of exercises come, and all that can go wrong on the way.

`GET <EXERCISES_API_URL>/<slug>` answers with a JSON object: `title` and `text`, and `starter` if it has one. The checks
of an exercise are code that we run, so they never come from there.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

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
WAIT, LONGEST_WAIT = 60.0, 86_400.0  # seconds to stay away, if it does not say how long, and at most

TEMPORARY = {408, 425, 502, 503, 504}
GONE = {404, 410}


class ContentError(Exception):
    """The root. Raised itself for a fault of the service that may pass, such as a 500."""


class BusyError(ContentError):
    """Raised when the service asks to stay away for `seconds`."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class TemporaryError(ContentError):
    """Raised when no whole answer came: no connection, one that broke, an overloaded service."""


class NoSuchExerciseError(ContentError):
    """Raised when the service does not have the exercise."""


class RefusedError(ContentError):
    """Raised when the service will not answer before somebody changes the settings, here or there."""


class UnusableAnswerError(ContentError):
    """Raised when an answer came that cannot be an exercise."""


@dataclass(frozen=True)
class Texts:
    """What the service says of an exercise: values of its fields, and by which names to ask whether they are new."""

    values: Mapping[str, str]
    etag: str
    last_modified: str


def fetch(exercise: Exercise) -> Texts | None:
    """
    The texts that the service has of an exercise; None when they are those that were taken last.

    Raises the errors above, and no other for whatever the service does.
    """
    known = ExerciseSource.objects.filter(exercise=exercise).first() or ExerciseSource()
    if not settings.EXERCISES_API_URL:
        raise RefusedError("There is no content service: EXERCISES_API_URL is not set.")
    url = f"{settings.EXERCISES_API_URL.rstrip('/')}/{exercise.slug}"
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    if settings.EXERCISES_API_TOKEN:
        headers["Authorization"] = f"Bearer {settings.EXERCISES_API_TOKEN}"
    if known.etag:
        headers["If-None-Match"] = known.etag
    if known.last_modified:
        headers["If-Modified-Since"] = known.last_modified
    until = time.monotonic() + LONGEST
    import httpx  # 7 MB that every worker and web process would carry for one job a day

    try:
        with httpx.stream("GET", url, headers=headers, timeout=PATIENCE, follow_redirects=False) as response:
            if response.status_code == 304 and (known.etag or known.last_modified):
                return None
            _demand_success(response)
            values = _texts(_body(response, until))
    except httpx.TransportError as error:
        raise TemporaryError(f"{type(error).__name__}: {error}") from error
    return Texts(values, *(_header(response, name) for name in ("ETag", "Last-Modified")))


def take(exercise: Exercise, texts: Texts) -> None:
    """Save the texts, and by which names to ask for newer ones: all of it or nothing, and no other field."""
    for field, value in texts.values.items():
        setattr(exercise, field, value)
    names = {"etag": texts.etag, "last_modified": texts.last_modified, "fetched_at": timezone.now()}
    with transaction.atomic():
        exercise.save(update_fields=[*texts.values, "updated_at"])
        ExerciseSource.objects.update_or_create(exercise=exercise, defaults=names)
        renew_listing()


def _demand_success(response: "httpx.Response") -> None:
    status, said = response.status_code, f"{_address(response)} answered {response.status_code}."
    retry_after = response.headers.get("Retry-After")
    if status == 429 or (status == 503 and retry_after is not None):
        raise BusyError(said, seconds(retry_after))
    if status in TEMPORARY:
        raise TemporaryError(said)
    if status in GONE:
        raise NoSuchExerciseError(f"{said} It does not have this exercise.")
    if response.has_redirect_location:
        raise RefusedError(
            f"{said} It leads to {response.headers['Location'][:200]!r}, where we do not follow. "
            "Set EXERCISES_API_URL to where the service is."
        )
    if 400 <= status < 500:
        raise RefusedError(f"{said} Check EXERCISES_API_URL and EXERCISES_API_TOKEN.")
    if status >= 500:
        raise ContentError(said)
    if status != 200:
        raise UnusableAnswerError(f"{said} It should be 200.")
    if (encoding := response.headers.get("Content-Encoding", "identity")) != "identity":
        raise UnusableAnswerError(f"{_address(response)} is packed as {encoding[:20]!r}, which was not asked for.")


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
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnusableAnswerError(f"The answer is no JSON: {error}.") from None
    if not isinstance(found, dict):
        raise UnusableAnswerError("The answer is no JSON object.")
    values = {name: found[name] for name in ("title", "text", "starter") if name in found}
    for name in ("title", "text", *values):
        if not isinstance(values.get(name), str) or "\0" in values[name]:
            raise UnusableAnswerError(f"The answer has no text as {name!r}.")
    try:
        Exercise(**values).clean_fields(exclude={"slug", "checks", "position"})
    except ValidationError as error:
        raise UnusableAnswerError(f"The answer cannot be an exercise: {error.message_dict}.") from None
    return values


def _address(response: "httpx.Response") -> str:
    """Without the password that a URL may have."""
    return f"{response.url.host}{response.url.path}"


def _header(response: "httpx.Response", name: str) -> str:
    """A header that we keep; one that is longer than any sensible one is as good as none."""
    value: str = response.headers.get(name, "")
    return value if len(value) <= 100 else ""


def seconds(retry_after: str | None) -> float:
    """Of a Retry-After, which holds seconds or a date (RFC 9110, 10.2.3); WAIT for what is neither."""
    try:
        if retry_after is None:
            found = WAIT
        elif retry_after.isdecimal():
            found = float(retry_after)
        else:
            found = (parsedate_to_datetime(retry_after) - timezone.now()).total_seconds()
    except (ValueError, TypeError):  # TypeError: a date of no time zone
        found = WAIT
    return min(max(found, 1.0), LONGEST_WAIT)
