"""What a job takes along from its caller: language, time zone, and values of the project's own."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from django.conf import settings
from django.utils import timezone, translation

from jobs.client import tracing
from jobs.errors import PayloadError, SerializationError
from jobs.record import arguments

_EMPTY: Mapping[str, Any] = {}
_values: ContextVar[Mapping[str, Any]] = ContextVar("jobs_context", default=_EMPTY)


class Context:
    """
    Values that travel with every job deferred while they are set, and are there again when it runs, through retries
    and requeues, and for the jobs that it defers in turn.

        with Mandate.context(request_id="7f3a"):
            SyncExercise.defer(3)  # in its `call`: Mandate.context["request_id"]

    Values are what arguments can be: a record is sent as a reference and fetched fresh.
    """

    @contextmanager
    def __call__(self, **values: Any) -> Iterator[None]:
        """Set these values, beside those that are set already, until the block ends."""
        token = _values.set({**_values.get(), **values})
        try:
            yield
        finally:
            _values.reset(token)

    def __getitem__(self, name: str) -> Any:
        """A value that is set. KeyError for one that is not."""
        return _values.get()[name]

    def get(self, name: str, default: Any = None) -> Any:
        """A value that is set, or the default."""
        return _values.get().get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(_values.get())


def capture() -> bytes:
    """
    What differs from the project's defaults in the calling thread, as JSON; empty when nothing does. With tracing on
    its trace, too.

    Raises SerializationError naming the value that cannot be sent.
    """
    values = _values.get()
    language = translation.get_language()
    zone = timezone.get_current_timezone()
    trace = tracing.carried() if tracing.is_on else None
    if not trace and not values and language == settings.LANGUAGE_CODE and zone is timezone.get_default_timezone():
        return b""
    found: dict[str, Any] = {"trace": trace} if trace else {}
    if language is not None and language != settings.LANGUAGE_CODE:
        found["language"] = language
    if isinstance(zone, ZoneInfo) and zone.key != settings.TIME_ZONE:
        found["zone"] = zone.key
    for name, value in values.items():
        try:
            found.setdefault("values", {})[name] = arguments.encode(value)
        except SerializationError as error:
            raise SerializationError(f"The context's value {name!r}, or something in it, {error}.") from None
    return orjson.dumps(found) if found else b""


@contextmanager
def restored(text: bytes) -> Iterator[None]:
    """
    Set what `capture` found, until the block ends.

    Raises PayloadError for what no `capture` wrote, MissingRecordError for a record that is gone.
    """
    try:
        found = orjson.loads(text)
        language, zone, values = found.get("language"), found.get("zone"), found.get("values", {})
        tz = ZoneInfo(zone) if zone else None
    except Exception as error:
        raise PayloadError(f"Malformed context: {error}") from error
    with ExitStack() as stack:
        token = _values.set(arguments.decode(values))
        stack.callback(_values.reset, token)
        if language:
            stack.enter_context(translation.override(language))
        if tz:
            stack.enter_context(timezone.override(tz))
        yield
