"""The context that a job takes from its caller: language, time zone, and the project's own values."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson
from django.conf import settings
from django.utils import timezone, translation

from jobs.client import tracing
from jobs.errors import NewerPayloadError, PayloadError, SerializationError
from jobs.record import arguments

_EMPTY: Mapping[str, Any] = {}
_values: ContextVar[Mapping[str, Any]] = ContextVar("jobs_context", default=_EMPTY)


class Context:
    """
    Values that are sent with every job deferred while they are set. They are set again when the job runs, through
    retries and requeues, and for the jobs that it defers in turn.

        with Mandate.context(request_id="7f3a"):
            SyncExercise.defer(3)  # in its `call`: Mandate.context["request_id"]

    Values have the types of arguments: a record is sent as a reference and fetched fresh.
    """

    @contextmanager
    def __call__(self, **values: Any) -> Iterator[None]:
        """Set these values, in addition to those already set, until the block ends."""
        token = _values.set({**_values.get(), **values})
        try:
            yield
        finally:
            _values.reset(token)

    def __getitem__(self, name: str) -> Any:
        """Return a value that is set. KeyError for any other name."""
        return _values.get()[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value that is set, or the default."""
        return _values.get().get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(_values.get())


def capture() -> bytes:
    """
    Return the context of the calling thread where it differs from the project's defaults, as JSON; empty if it does
    not. With tracing on it includes the trace.

    Raises SerializationError, naming the value, if one cannot be serialized.
    """
    values = _values.get()
    language = translation.get_language()
    zone = timezone.get_current_timezone()
    trace = tracing.carried() if tracing.is_on else None
    if not trace and not values and language == settings.LANGUAGE_CODE and zone is timezone.get_default_timezone():
        return b""
    context: dict[str, Any] = {"trace": trace} if trace else {}
    if language is not None and language != settings.LANGUAGE_CODE:
        context["language"] = language
    if isinstance(zone, ZoneInfo) and zone.key != settings.TIME_ZONE:
        context["zone"] = zone.key
    for name, value in values.items():
        try:
            context.setdefault("values", {})[name] = arguments.encode(value)
        except SerializationError as error:
            raise SerializationError(f"The context's value {name!r}, or something in it, {error}.") from None
    return orjson.dumps(context) if context else b""


@contextmanager
def restored(text: bytes) -> Iterator[None]:
    """
    Set the context that `capture` returned, until the block ends.

    Raises PayloadError for text that `capture` did not write, NewerPayloadError for a name that this release does not
    have, MissingRecordError for a record that is gone.
    """
    try:
        context = orjson.loads(text)
        language, zone, values = context.get("language"), context.get("zone"), context.get("values", {})
        tz = ZoneInfo(zone) if zone else None
    except ZoneInfoNotFoundError as error:
        raise NewerPayloadError(f"Unknown time zone {zone!r} in the context: {error}") from error
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
