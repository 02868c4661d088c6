"""
The field `limits` of a job's record, which `parts/admit.lua` reads: a line for each limit of its command, with the
value of its key for this job. It is computed where the job is deferred, because only there are the arguments known; a
job that was deferred without it gets it from the first worker that takes it.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from django.utils.module_loading import import_string

from jobs import conf
from jobs.broker.times import as_text
from jobs.errors import PayloadError, SerializationError
from jobs.limits import policy
from jobs.limits.policy import Concurrency, Rate
from jobs.record import arguments, registry

HEAVIEST = 100  # the largest weight of a share
LONGEST = 100  # bytes of a value; a digest stands for a longer one

_DIGEST = re.compile("sha1:[0-9a-f]{40}")


def fields(command: Any, name: str, bound: Any, args: Sequence[Any], named: Mapping[str, Any]) -> tuple[Any, ...]:
    """
    Return the fields that the record of a job has for the limits of its command: names and values, alternating.
    `bound` is the command with these arguments, positional and named.

    Raises SerializationError if the value of a key cannot be serialized, and what a key's own function raises.
    """
    lines = []
    for limit, limit_id in zip(command.limits, policy.ids(command, name), strict=True):
        lines.append(line(limit, limit_id, _value(name, limit, bound, args, named)))
    return ("limits", "\n".join(lines))


def share(command: Any, name: str, bound: Any, args: Sequence[Any], named: Mapping[str, Any]) -> tuple[Any, ...]:
    """
    Return the fields of a job of a command whose jobs take turns, with the line of its share; nothing if it has no
    share: without a `share`, and where the field that JOBS["SHARE"] names is missing or None.

    Raises SerializationError if the key cannot be serialized, ValueError for an impossible weight, and what the
    function raises.
    """
    by: Any = command.share or conf.get("SHARE")
    if isinstance(by, str) and "." in by:
        given = import_string(by)(bound)
    elif callable(by):
        given = by(*args, **named)
    else:
        given = getattr(bound, by, None)
    key, weight = given if isinstance(given, tuple) and len(given) == 2 else (given, 1)
    if key is None:
        return ()
    if not (type(weight) is int and 1 <= weight <= HEAVIEST):
        raise ValueError(
            f"{name}: the weight {weight!r} of its share is impossible. Give a number from 1 to {HEAVIEST}."
        )
    try:
        return ("limits", f"s\t{text(key)}\t{weight}")
    except SerializationError as error:
        raise SerializationError(
            f"{name} cannot be deferred: the key of its share, or something in it, {error}."
        ) from None


def line(limit: Concurrency | Rate, limit_id: str, value: str) -> str:
    """Return the line of one limit."""
    if isinstance(limit, Rate):
        return f"r\t{limit_id}\t{value}\t{limit.n}\t{_number(limit.seconds)}\t{limit.most}\t{limit.cost}"
    return f"c\t{limit_id}\t{value}\t{limit.n}\t{limit.on_full}"


def share_of(fields: Sequence[Any]) -> str:
    """Return the line of the share in the fields of a job; "" if there is none."""
    stored = as_text(fields[fields.index("limits") + 1]) if "limits" in fields else ""
    return next((each for each in stored.split("\n") if each.startswith("s\t")), "")


def together(limits: tuple[Any, ...], share: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the fields of a job with limits, or a share, or both."""
    if not limits or not share:
        return limits or share
    return ("limits", f"{limits[1]}\n{share[1]}")


def lacks(command: Any, stored: str) -> bool:
    """Whether the field `limits` of a job, or "", has not all that its command's class declares in this release."""
    known = {each.split("\t", 2)[1] for each in stored.split("\n") if each.count("\t") > 1}
    return not known.issuperset(policy.ids(command, registry.name_of(command)))


def of_job(bound: Any, args: Sequence[Any], named: Mapping[str, Any], stored: str) -> tuple[Any, ...]:
    """
    Return the fields of a job that was deferred without them, of the command `bound` with these arguments. The share in
    `stored`, its field `limits`, is kept. Raises PayloadError if a key's value cannot be computed: it can never run.
    """
    name = registry.name_of(type(bound))
    try:
        text = fields(type(bound), name, bound, args, named)[1]
    except Exception as error:
        raise PayloadError(
            f"The limits of {name} cannot be computed for this job: {type(error).__name__}: {error}"
        ) from error
    turn = share_of(("limits", stored))
    return ("limits", f"{text}\n{turn}" if turn else text)


def _number(seconds: float) -> str:
    """Write seconds without an exponent."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def _value(name: str, limit: Any, bound: Any, args: Sequence[Any], named: Mapping[str, Any]) -> str:
    if limit.function is not None:
        given = limit.function(*args, **named)
    elif limit.names:
        given = [getattr(bound, each) for each in limit.names]
        given = given[0] if len(given) == 1 else given
    else:
        return ""
    try:
        return text(given)
    except SerializationError as error:
        raise SerializationError(
            f"{name} cannot be deferred: the key {limit.key!r} of its limit, or something in it, {error}."
        ) from None


def text(value: object) -> str:
    """Return the text of a key's value, its JSON or a digest. Raises SerializationError if it has no JSON."""
    return _shortened(orjson.dumps(arguments.encode(value), option=orjson.OPT_SORT_KEYS))


def typed(given: str) -> str:
    """Return the text of a value that a person typed: as the list of limits shows it, as JSON, or as plain text."""
    if _DIGEST.fullmatch(given):
        return given
    try:
        return _shortened(orjson.dumps(orjson.loads(given), option=orjson.OPT_SORT_KEYS))
    except ValueError:
        return _shortened(orjson.dumps(given))


def _shortened(encoded: bytes) -> str:
    if len(encoded) > LONGEST:
        return f"sha1:{hashlib.sha1(encoded, usedforsecurity=False).hexdigest()}"
    return encoded.decode()
