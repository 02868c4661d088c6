"""
Decides what may be shown of a call, a context, a payload or a text that a job left behind.

Pages, the API, lists, the command line, log lines and the kit's messages use only this module for it. Two things are
hidden: the arguments of a command with `log_arguments = False`, and every value whose name is listed in
JOBS["FILTERED_FIELDS"], at any depth. Only a payload is shown as it is, to readers with the permission
`jobs.view_payloads`.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from itertools import zip_longest
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
from django.utils.duration import duration_iso_string

from jobs import conf
from jobs.errors import JobsError
from jobs.record import registry

FILTERED = "[filtered]"
UNREADABLE = "(unreadable)"  # stands for a command whose name cannot be read
UNKNOWN = "(unknown)"  # under which all those are counted that there are not: a payload may name any number of them

CALL_LENGTH = 500  # characters of a call
VALUE_LENGTH = 500  # characters of one argument
RESULT_LENGTH = 5_000  # characters of a return value
PAYLOAD_LENGTH = 20_000  # characters

_DIRECTION = {ord(each): f"⟨U+{ord(each):04X}⟩" for each in "\u061c\u200e\u200f"}
_DIRECTION |= {at: f"⟨U+{at:04X}⟩" for at in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}

_SHORT = "'(?:[^'\\\\\\n]|\\\\.)*'"
_LONG = '"(?:[^"\\\\\\n]|\\\\.)*"'


# --- values and calls ------------------------------------------------------------------------


def value(encoded: Any) -> str:
    """
    Return the readable form of one argument, which is in its JSON form. Nothing is fetched: a reference reads
    `users.User:7`. The values of filtered keys in it are hidden.
    """
    return _value(encoded, _hidden())


def named(name: str, encoded: Any) -> str:
    """Return the readable value of the argument or context variable `name`; `[filtered]` if that name is filtered."""
    return hides(name) or _value(encoded, _hidden())


def hides(name: str) -> str:
    """Return the placeholder for values of that name; empty if they may be shown."""
    return FILTERED if name in _hidden() else ""


def call(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """
    Return the call of a command by its name and encoded arguments, `jiki.ProcessSubmission(7, force=True)`, at most
    CALL_LENGTH characters. Without the arguments, `name(...)`, if they are private or the command is unknown.
    """
    fields = call_fields(name)
    if fields is None:
        return f"{name}(...)"
    placed = [named(field, each) for field, each in zip_longest(fields[: len(args)], args, fillvalue="")]
    given = [f"{field}={named(field, each)}" for field, each in kwargs.items()]
    return f"{name}({', '.join([*placed, *given])})"[:CALL_LENGTH]


def arguments(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[tuple[str, str]] | None:
    """
    Return the arguments of a command's call as pairs of name and text, each text at most VALUE_LENGTH characters; None
    if they are private or the command is unknown.
    """
    fields = call_fields(name)
    if fields is None:
        return None
    placed = zip_longest(fields[: len(args)], args, fillvalue="")
    return [(field, _cut(named(field, each))) for field, each in (*placed, *kwargs.items())]


def plain_arguments(args: Iterable[Any], kwargs: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the same for a plain RQ job, whose arguments are any values."""
    return [*(("", _cut(named("", each))) for each in args), *((n, _cut(named(n, each))) for n, each in kwargs.items())]


def result(name: str, encoded: Any) -> str:
    """
    Return the readable form of what a command's `call` returned, in its JSON form, at most RESULT_LENGTH characters;
    `[filtered]` if the command's arguments are private.
    """
    if registry.knows(name) and call_fields(name) is None:
        return FILTERED
    return _cut(value(encoded), RESULT_LENGTH)


def call_fields(name: str) -> list[str] | None:
    """Return the names of a command's fields in order; None if its arguments are private or the command is unknown."""
    try:
        command: Any = registry.get(name)
    except JobsError:
        return None
    return list(getattr(command, "__dataclass_fields__", ())) if command.log_arguments else None


# --- other fields of a record ----------------------------------------------------------------


def context(stored: bytes | str) -> str:
    """Return the stored context of a job: language, time zone, and the project's values, filtered ones hidden."""
    try:
        fields: dict[str, Any] = orjson.loads(stored)
        values: dict[str, Any] = fields.pop("values", {})
        shown = [*fields.items(), *values.items()]
        return ", ".join(f"{name}={named(name, each)}" for name, each in shown)
    except (ValueError, AttributeError, TypeError):
        return UNREADABLE


def payload(stored: bytes, context: bytes = b"") -> str:
    """Return a payload (not compressed) and a context as stored: only for readers with `jobs.view_payloads`."""
    try:
        shown = orjson.dumps(orjson.loads(stored), option=orjson.OPT_INDENT_2).decode()
    except ValueError:
        shown = repr(stored)
    if context:
        shown += f"\ncontext: {context.decode(errors='replace')}"
    return shown if len(shown) <= PAYLOAD_LENGTH else f"{shown[:PAYLOAD_LENGTH]}\n... ({len(shown):,} characters)"


def text(line: str) -> str:
    """
    Return a reason, a traceback, a log or the description of a plain RQ job, as written. Literals after a filtered name
    (`token='...'`, `"token": "..."`, `token=7`) are hidden.
    """
    hidden = _hidden()
    return _literals(hidden).sub(rf"\g<1>{FILTERED}", line) if hidden and line else line


def marked(text: str) -> str:
    """Return a text whose controls of direction, which could make it read as another one, are marks: `⟨U+202E⟩`."""
    return text if text.isascii() else text.translate(_DIRECTION)


def _hidden() -> tuple[str, ...]:
    return tuple(conf.get("FILTERED_FIELDS"))


def _moment(parts: Sequence[Any]) -> str:
    """Return a datetime as ISO text; of one in a named zone with the offset, and the name as in RFC 9557."""
    text, zone, fold = parts
    at = datetime.fromisoformat(text)
    return f"{at.replace(tzinfo=ZoneInfo(zone), fold=fold).isoformat()}[{zone}]" if zone else at.isoformat()


def _time(parts: Sequence[Any]) -> str:
    text, zone, _ = parts
    return f"{time.fromisoformat(text).isoformat()}{f'[{ZoneInfo(zone)}]' if zone else ''}"


def _integer(digits: str) -> str:
    return str(int(digits, 16)) if len(digits) < VALUE_LENGTH else f"0x{int(digits, 16):x}"


def _member(parts: Sequence[str]) -> str:
    path = f"{parts[0].partition(':')[2]}.{parts[1]}"
    if not path.replace(".", "").isidentifier():
        raise ValueError
    return path


# The readable forms of tagged values: ISO 8601 for what has to do with time.
_READ: dict[str, Callable[[Any], str]] = {
    "$datetime": _moment,
    "$time": _time,
    "$date": lambda day: str(date.fromisoformat(day)),
    "$timedelta": lambda parts: duration_iso_string(timedelta(*parts)),
    "$uuid": lambda digits: str(UUID(digits)),
    "$int": _integer,
    "$enum": _member,
}


def _value(encoded: Any, hidden: Sequence[str]) -> str:
    if type(encoded) is list:
        return f"[{', '.join(_value(each, hidden) for each in encoded)}]"
    if type(encoded) is str:
        return repr(text(encoded))
    if type(encoded) is not dict:
        return repr(encoded)
    tag = next(iter(encoded), "")
    if not isinstance(tag, str) or tag[:1] != "$":
        items = ((key, FILTERED if key in hidden else _value(each, hidden)) for key, each in encoded.items())
        return f"{{{', '.join(f'{key!r}: {shown}' for key, shown in items)}}}"
    if tag == "$record":
        return str(encoded[tag])
    if reads := _READ.get(tag):
        try:
            return reads(encoded[tag])
        except Exception:  # noqa: S110  # not as `arguments.encode` writes it
            pass
    if tag == "$subclass" and type(encoded[tag]) is list and encoded[tag]:
        return _value(encoded[tag][-1], hidden)
    if tag == "$dict":  # pairs of key and value: a key is no string, or begins with "$"
        pairs = ((key, FILTERED if key in hidden else _value(each, hidden)) for key, each in encoded[tag])
        return f"dict([{', '.join(f'[{_value(key, hidden)}, {shown}]' for key, shown in pairs)}])"
    return f"{tag[1:]}({_value(encoded[tag], hidden)})"


def _cut(shown: str, most: int = VALUE_LENGTH) -> str:
    return shown if len(shown) <= most else f"{shown[:most]}... ({len(shown):,} characters)"


@lru_cache(maxsize=4)
def _literals(hidden: tuple[str, ...]) -> re.Pattern[str]:
    names = "|".join(map(re.escape, sorted(hidden, key=len, reverse=True)))
    return re.compile(rf"((?<!\w)['\"]?(?:{names})['\"]?(?:=|\s*:\s*))b?(?:{_SHORT}|{_LONG}|-?\d[\w.]*)")
