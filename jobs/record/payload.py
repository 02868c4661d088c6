"""
The payload: a call as Redis holds it. No other module builds, compresses, inflates or takes apart a payload.

A command's payload is the JSON list `["jobs.execution.perform", null, ["app.Command", *arguments], {named arguments}]`,
compressed by zlib where that saves room. RQ reads the same form with its JSONSerializer. Payloads of plain RQ jobs have
their function in the first place.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from jobs.errors import NewerPayloadError, PayloadError
from jobs.record import allowlist

PERFORM = "jobs.execution.perform"  # the function that every command's payload names
VERSION = 1  # of payloads: the newest that this release reads
LISTED = 1_024 * 1_024  # bytes of a payload that lists read: one of some kilobytes may inflate to a thousand times that
SHOWN = 16 * LISTED  # bytes of a payload that the page of one job reads
COMPRESS_OVER = 1_024  # bytes; below it zlib costs more time than it saves room


class Call(NamedTuple):
    """The call of a command: its name, and its arguments in their JSON form."""

    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    is_tagged: bool  # whether an argument is more than JSON, so that `arguments.decode` has something to do


def build(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """Return the payload of a command's call, not compressed. The arguments are in their JSON form."""
    return orjson.dumps([PERFORM, None, [name, *args], kwargs])


def stored(payload: bytes) -> bytes:
    """Return a payload as Redis holds it: compressed if it is longer than COMPRESS_OVER."""
    return zlib.compress(payload, 1) if len(payload) > COMPRESS_OVER else payload


def inflated(data: bytes) -> bytes:
    """Return the payload from the data in Redis. Data that is not compressed is returned unchanged."""
    if data[:1] == b"[":
        return data
    try:
        return zlib.decompress(data)
    except zlib.error:
        return data


def listed(data: bytes, most: int = LISTED) -> bytes | None:
    """The same for a list, which reads many: None for a payload of more than `most` bytes."""
    if data[:1] == b"[":
        return data if len(data) <= most else None
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(data, most)
    except zlib.error:
        return data
    if inflater.eof:
        return text
    return None if len(text) == most else data


def read(data: bytes) -> Call:
    """
    Return the call in a command's payload, compressed or not.

    Raises NewerPayloadError if a newer release wrote it, ForbiddenFunctionError if it names a function that jobs may
    not call, PayloadError for all other data that `build` does not write.
    """
    try:
        text = data if data[:1] == b"[" else zlib.decompress(data)
        function, instance, args, kwargs = orjson.loads(text)
    except (zlib.error, ValueError, TypeError) as error:
        raise PayloadError(f"Malformed payload: {error}") from error
    if function != PERFORM or instance is not None:
        if (version := version_of(function)) and version > VERSION:
            raise NewerPayloadError(
                f"The payload is of version {version}, and this release reads up to {VERSION}. "
                "Let workers of the release that enqueued it run it."
            )
        allowlist.resolve(function if instance is None else instance)  # raises, unless it is a plain function's
        raise PayloadError(f"The payload calls {function!r}, which is not a command.")
    if not (isinstance(args, list) and args and isinstance(args[0], str) and isinstance(kwargs, dict)):
        raise PayloadError("Malformed payload: it names no command.")
    return Call(args[0], args[1:], kwargs, b'"$' in text)


def peek(data: bytes) -> Call | None:
    """
    Return the call in a command's payload of this release; None for any other payload. Unlike `read` it imports
    nothing, so that a list may peek into any payload.
    """
    try:
        text = inflated(data)
        function, _, args, kwargs = orjson.loads(text)
        if function != PERFORM or not isinstance(args[0], str):
            return None
        return Call(args[0], args[1:], kwargs, b'"$' in text)
    except (ValueError, TypeError, LookupError):
        return None


def version_of(function: object) -> int | None:
    """
    Return the version of a command's payload by the function it names: `jobs.execution.perform` is 1,
    `jobs.execution.perform:2` is 2. None if it is not a command's.
    """
    name, colon, number = function.partition(":") if isinstance(function, str) else ("", "", "")
    if name != PERFORM or (colon and not (number.isascii() and number.isdigit())):
        return None
    return int(number) if colon else 1


def is_command(data: bytes) -> bool:
    """Return whether the data is a command's payload, of any version; False for unreadable data."""
    try:
        return version_of(orjson.loads(inflated(data))[0]) is not None
    except (ValueError, LookupError, TypeError):
        return False


def names_command(function: object, args: Sequence[Any]) -> bool:
    """Return whether a job with this function and these arguments, as RQ has loaded them, runs a command."""
    return version_of(function) is not None and bool(args) and isinstance(args[0], str)
