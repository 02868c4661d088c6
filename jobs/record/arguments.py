"""
Arguments <-> JSON, exactly or not at all.

What JSON has no word for is tagged: an object whose first key starts with `$`. A model instance is sent as a reference,
`{"$record": "users.User:7"}`, and fetched fresh when the job runs. Whatever orjson would change silently (large
integers, Enum members, subclasses of str, int and dict) is tagged before orjson sees it; what cannot be sent exactly is
refused at `defer`. Decoding imports nothing and runs no constructor that a payload could choose.
"""

import sys
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson
from django.db import DEFAULT_DB_ALIAS, models
from django.utils.functional import LazyObject, Promise, empty

from jobs.errors import NewerPayloadError, PayloadError, SerializationError
from jobs.record import records, references, registry

# orjson refuses more than 254 levels, and a tag makes up to three levels of one.
MAX_NESTING = 80
_INT64 = range(-(2**63), 2**63)  # integers that every JSON reader in use keeps exact


# --- to JSON ---------------------------------------------------------------------------------


def encode(value: Any, _depth: int = 0) -> Any:
    """
    Return the JSON form of one value.

    Raises SerializationError for a value that cannot be sent exactly: an unsaved instance, NaN, an unsupported type, a
    lone surrogate, more than MAX_NESTING levels.
    """
    kind = type(value)
    if kind is str:
        return _text(value)
    if kind is int:
        return value if value in _INT64 else {"$int": hex(value)}
    if value is None or kind is bool:
        return value
    if _depth >= MAX_NESTING:
        raise SerializationError(
            f"nests deeper than {MAX_NESTING} levels. Send a flatter value, or store it and send its key"
        )
    encoder = _ENCODERS.get(kind) or _encoder_by_base(value)
    return encoder(value, _depth + 1)


def _text(value: Any) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise SerializationError("is text with a lone surrogate, which UTF-8 cannot hold. Clean it first") from None
    return value  # type: ignore[no-any-return]


def _float(value: float, _depth: int) -> float:
    if not isfinite(value):
        raise SerializationError(f"is the float {value}, which JSON cannot hold. Send None or a text instead")
    return value


def _decimal(value: Decimal, _depth: int) -> Any:
    if not value.is_finite():
        raise SerializationError(f"is the Decimal {value}, which is not a finite number. Send None or a text instead")
    return {"$decimal": str(value)}


def _dict(value: dict[Any, Any], depth: int) -> Any:
    if all(type(key) is str and key[:1] != "$" for key in value):
        return {_text(key): encode(item, depth) for key, item in value.items()}
    return {"$dict": [[encode(key, depth), encode(item, depth)] for key, item in value.items()]}


def _items(value: Any, depth: int) -> list[Any]:
    return [encode(item, depth) for item in value]


def _sorted_items(value: Any, depth: int) -> list[Any]:
    # A set has no order; in a payload it has one, so that equal arguments give equal payloads.
    return sorted(_items(value, depth), key=lambda item: orjson.dumps(item, option=orjson.OPT_SORT_KEYS))


def _zone(value: datetime | time) -> list[Any]:
    """Return what the ISO text lacks: the zone's name, and which of two equal wall-clock times it is."""
    zone = value.tzinfo
    if isinstance(zone, ZoneInfo) and zone.key is not None:
        return [zone.key, value.fold]
    if zone is None or type(zone) is timezone:
        return [None, value.fold]
    raise SerializationError(
        f"has a time zone of type {type(zone).__name__}, whose name cannot be kept. Use zoneinfo.ZoneInfo"
    )


def _datetime(value: datetime, _depth: int) -> Any:
    return {"$datetime": [value.replace(tzinfo=_fixed(value)).isoformat(), *_zone(value)]}


def _time(value: time, _depth: int) -> Any:
    return {"$time": [value.replace(tzinfo=_fixed(value)).isoformat(), *_zone(value)]}


def _fixed(value: datetime | time) -> Any:
    return value.tzinfo if type(value.tzinfo) is timezone else None


def _record(value: models.Model, _depth: int) -> Any:
    return records.reference_to(value)


def _lazy(value: Any, depth: int) -> Any:
    if value._wrapped is empty:
        value._setup()
    return encode(value._wrapped, depth)


def _class(value: type, _depth: int) -> Any:
    if issubclass(value, models.Model):
        return {"$model": value._meta.label}
    if value in registry.all_commands().values():
        return {"$command": registry.name_of(value)}
    raise SerializationError(f"is the class {value.__qualname__}; of classes only models and commands can be sent")


def _path_of(kind: type) -> str:
    path = f"{kind.__module__}:{kind.__qualname__}"
    try:
        if _loaded_class(path) is kind:
            return path
    except PayloadError:
        pass
    raise SerializationError(
        f"is a {kind.__qualname__}, a class that cannot be found again by its name. Send its value"
    )


def _enum(value: Enum, _depth: int) -> Any:
    if type(value).__members__.get(value._name_) is not value:
        raise SerializationError(f"is {value!r}, which is not a single member of its Enum. Send its value")
    return {"$enum": [_path_of(type(value)), value._name_]}


def _subclass(base: type) -> Callable[[Any, int], Any]:
    def encoder(value: Any, depth: int) -> Any:
        plain = _PLAIN[base](value)
        if getattr(value, "__dict__", None) or not _rebuildable(base, type(value)):
            raise SerializationError(
                f"is a {type(value).__qualname__}, which is more than its items. Send a plain {base.__name__}"
            )
        return {"$subclass": [_path_of(type(value)), base.__name__, encode(plain, depth)]}

    return encoder


# Not `str(value)` and the like: a subclass may answer those with itself (SafeString does) or with something else.
_PLAIN: dict[type, Callable[[Any], Any]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    dict: lambda value: dict(dict.items(value)),
    list: lambda value: list(list.__iter__(value)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
}


def _rebuildable(base: type, kind: type) -> bool:
    """Return whether its items are its whole state. They are not for OrderedDict, defaultdict and Counter."""
    return getattr(kind, "__reduce__", None) is object.__reduce__


_ENCODERS: dict[type, Callable[[Any, int], Any]] = {
    float: _float,
    list: _items,
    dict: _dict,
    tuple: lambda value, depth: {"$tuple": _items(value, depth)},
    set: lambda value, depth: {"$set": _sorted_items(value, depth)},
    frozenset: lambda value, depth: {"$frozenset": _sorted_items(value, depth)},
    bytes: lambda value, _: {"$bytes": value.hex()},
    datetime: _datetime,
    date: lambda value, _: {"$date": value.isoformat()},
    time: _time,
    timedelta: lambda value, _: {"$timedelta": [value.days, value.seconds, value.microseconds]},
    Decimal: _decimal,
    UUID: lambda value, _: {"$uuid": value.hex},
    references.Result: references.encode,
    range: lambda value, depth: {"$range": _items((value.start, value.stop, value.step), depth)},
}

# By base class, the more special first: an IntEnum is an Enum before it is an int, freezegun's datetime is a datetime.
_BASES: list[tuple[type, Callable[[Any, int], Any]]] = [
    (models.Model, _record),
    (LazyObject, _lazy),
    (Enum, _enum),
    (Promise, lambda value, depth: encode(str(value), depth)),
    (type, _class),
    (datetime, _datetime),
    (date, _ENCODERS[date]),
    *((base, _subclass(base)) for base in _PLAIN),
]


def _encoder_by_base(value: object) -> Callable[[Any, int], Any]:
    kind = type(value)  # not its `__class__`, which a mock with a `spec` borrows
    for base, encoder in _BASES:
        if issubclass(kind, base):
            return encoder
    if records.is_proxy(value):
        return _record
    raise SerializationError(
        f"is of type {type(value).__module__}.{type(value).__qualname__}, which cannot be sent. "
        "Send its data, or store it and send its key"
    )


# --- from JSON -------------------------------------------------------------------------------


def decode(value: Any) -> Any:
    """
    Return the value of a JSON form; records are fetched fresh, one query per model and database.

    Raises MissingRecordError naming every record that is gone, PayloadError for a form that `encode` did not write or
    this release cannot read. A database that is down raises its own error.
    """
    return _decode(value, records.fetch(_references(value)))


def _references(value: Any) -> Iterator[tuple[str, str]]:
    """Yield every (reference, database alias) in a JSON form."""
    if type(value) is list:
        for item in value:
            yield from _references(item)
    elif type(value) is dict:
        if "$record" in value:
            yield value["$record"], value.get("using", DEFAULT_DB_ALIAS)
        else:
            for item in value.values():
                yield from _references(item)


def _decode(value: Any, found: records.Records) -> Any:
    if type(value) is list:
        return [_decode(item, found) for item in value]
    if type(value) is not dict:
        return value
    tag = next(iter(value), "")
    if tag[:1] != "$":
        return {key: _decode(item, found) for key, item in value.items()}
    if tag == "$record":
        return found[value["$record"], value.get("using", DEFAULT_DB_ALIAS)]
    decoder = _DECODERS.get(tag)
    if decoder is None:
        raise NewerPayloadError(f"Unknown kind of argument {tag!r}: this release cannot read it.")
    try:
        return decoder(_decode(value[tag], found))
    except PayloadError:
        raise
    except ZoneInfoNotFoundError as error:
        raise NewerPayloadError(f"Unknown time zone in {str(value)[:200]}: {error}") from error
    except Exception as error:
        raise PayloadError(f"Malformed argument {str(value)[:200]}: {error}") from error


def _zoned(value: Any, zone: str | None, fold: int) -> Any:
    return value.replace(tzinfo=ZoneInfo(zone) if zone else value.tzinfo, fold=fold)


def _datetime_of(value: list[Any]) -> datetime:
    return _zoned(datetime.fromisoformat(value[0]), *value[1:])  # type: ignore[no-any-return]


def _loaded_class(path: str) -> type:
    """Return a class by `module:Qualified.Name`, if its module is loaded. Imports nothing, and walks only classes."""
    module, _, qualname = path.partition(":")
    loaded: Any = sys.modules.get(module)
    for name in qualname.split("."):
        loaded = vars(loaded).get(name) if loaded is not None else None
        if not isinstance(loaded, type):
            raise NewerPayloadError(f"Unknown class {path!r}: no loaded module of this release defines it.")
    return loaded  # type: ignore[no-any-return]


def _enum_of(value: list[str]) -> Enum:
    kind = _loaded_class(value[0])
    if not issubclass(kind, Enum):
        raise PayloadError(f"{value[0]!r} is not an Enum.")
    try:
        return kind.__members__[value[1]]
    except KeyError:
        raise NewerPayloadError(f"{value[0]!r} has no member {value[1]!r} in this release.") from None


def _subclass_of(value: list[Any]) -> Any:
    kind = _loaded_class(value[0])
    base: Any = next(base for base in _PLAIN if base.__name__ == value[1])
    if not issubclass(kind, base):
        raise PayloadError(f"{value[0]!r} is not a subclass of {value[1]}.")
    # The base's own constructor: the class's `__new__` and `__init__` are code that a payload must not choose to run.
    instance = base.__new__(kind, value[2])
    if base in (dict, list):
        base.__init__(instance, value[2])
    return instance


LOST = "$lost"  # the tag of a result that could not be kept: text that says what it was


def lost(text: str) -> bytes:
    """Return what is kept in place of a result that cannot be kept, as JSON."""
    return orjson.dumps({LOST: text})


_DECODERS: dict[str, Callable[[Any], Any]] = {
    LOST: str,
    "$int": lambda value: int(value, 16),
    "$dict": dict,
    "$tuple": tuple,
    "$set": set,
    "$frozenset": frozenset,
    "$bytes": bytes.fromhex,
    "$datetime": _datetime_of,
    "$date": date.fromisoformat,
    "$time": lambda value: _zoned(time.fromisoformat(value[0]), *value[1:]),
    "$timedelta": lambda value: timedelta(*value),
    "$decimal": Decimal,
    "$uuid": UUID,
    "$range": lambda value: range(*value),
    "$enum": _enum_of,
    "$subclass": _subclass_of,
    "$model": records.model_of,
    "$command": registry.get,
    references.TAG: references.Result,  # a step that begins has had it filled in
}
