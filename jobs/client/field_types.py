"""
Checks at `defer` that arguments have the types of their fields, where an annotation says something that can be checked.

Checked are records, simple values, collections of these, Enum, Literal, and unions. A value that works where another
type is annotated passes: an int or Decimal for a float, 0 and 1 for a bool, a lazy text for a str, the value of a
member for a TextChoices, a tuple for a list, a record of a proxy for its model. What cannot be resolved or is of
another kind is not checked: forward references under TYPE_CHECKING, type variables, protocols, classes of the project.
"""

import dataclasses
import inspect
import sys
import types
from collections import abc
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NewType, Union, Unpack, get_args, get_origin, get_type_hints, is_typeddict
from uuid import UUID

from django.apps import apps
from django.db import models
from django.utils.functional import LazyObject, Promise

from jobs.record import arguments, display, references

Fits = Callable[[Any], bool]

SHOWN = 100  # characters of a refused value


class FieldCheck:
    """The check of one field. A value whose very type is in `exact` passes without a call."""

    __slots__ = ("exact", "fits", "name", "wanted")

    def __init__(self, name: str, wanted: object, exact: frozenset[type], fits: Fits) -> None:
        self.name, self.wanted, self.exact, self.fits = name, wanted, exact, fits


def check(command: type, bound: Any, args: Sequence[Any], given: Mapping[str, Any]) -> None:
    """
    Compare the fields of a built command with their annotations. `args` and `given` are the arguments as passed: a
    value that `__post_init__` has replaced may fit before or after that.

    Raises TypeError, naming command, field, type and value.
    """
    try:
        checks = command.__dict__["_field_checks"]
    except KeyError:
        checks = command._field_checks = tuple(_checks_of(command))  # type: ignore[attr-defined]
    values = bound.__dict__
    for each in checks:
        if type(values.get(each.name)) not in each.exact:
            _check(each, command, values, args, given)


def _check(each: FieldCheck, command: Any, values: Mapping[str, Any], args: Sequence[Any], fields: Any) -> None:
    if not command.strict_types or each.name not in values or each.fits(values[each.name]):
        return
    if references.within(values[each.name]):
        _check_result(each, command, values[each.name])
        return
    passed = inspect.signature(command).bind(*args, **fields).arguments
    if each.name not in passed or each.fits(passed[each.name]):
        return
    value = passed[each.name]
    shown = _shown(each.name, value) if command.log_arguments else display.FILTERED
    raise TypeError(
        f"{command.__qualname__} cannot be deferred: its field {each.name!r} is annotated {_named(each.wanted)}, "
        f"but was given {shown}, of type {type(value).__qualname__}. "
        "Give a value of that type, or set `strict_types = False` on the command."
    )


def _check_result(each: FieldCheck, command: Any, value: Any) -> None:
    """Compare what a step returns with the field's annotation, where both are classes; else nothing can be said."""
    if type(value) is not references.Result:
        return
    returns, wanted = value.returns, each.wanted
    if not isinstance(returns, type) or not isinstance(wanted, type) or get_args(returns) or get_args(wanted):
        return
    if issubclass(returns, wanted) or (returns is int and wanted in (float, bool)):
        return
    raise TypeError(
        f"{command.__qualname__} cannot be added: its field {each.name!r} is annotated {_named(wanted)}, but the step "
        f"before returns {_named(returns)}."
    )


def _named(wanted: object) -> str:
    return wanted.__qualname__ if isinstance(wanted, type) and not get_args(wanted) else str(wanted)


def _shown(name: str, value: object) -> str:
    text = display.named(name, arguments.encode(value))
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


# --- annotations -----------------------------------------------------------------------------


def _checks_of(command: Any) -> list[FieldCheck]:
    checks = []
    for field in dataclasses.fields(command):
        try:
            wanted = _annotation(command, field.name)
            exact, fits = _compiled(wanted)
        except Exception:  # noqa: S112  # whatever an annotation's code raises
            continue
        if fits is None or not field.init:
            continue
        if field.default is not dataclasses.MISSING and not fits(field.default):
            fits = _or_default(fits, field.default)
            exact |= {type(None)} if field.default is None else frozenset()
        checks.append(FieldCheck(field.name, wanted, exact, fits))
    return checks


def _annotation(command: type, name: str) -> Any:
    """Return the resolved annotation of a field. Raises any error if it cannot be resolved here."""
    for base in command.__mro__:
        annotations = inspect.get_annotations(base)
        if name in annotations:
            holder = types.SimpleNamespace(__annotations__={name: annotations[name]})
            nested = {key: value for key, value in vars(base).items() if isinstance(value, type)}
            return get_type_hints(holder, vars(sys.modules[base.__module__]), nested, include_extras=True)[name]
    return Any


_Compiled = tuple[frozenset[type], Fits | None]  # None: not checked
_UNCHECKED: _Compiled = (frozenset(), None)


def _compiled(wanted: Any) -> _Compiled:
    """Return the check of an annotation: the exact types that pass, and a function for all other values."""
    if isinstance(wanted, NewType):
        return _compiled(wanted.__supertype__)
    origin = get_origin(wanted)
    if origin is Annotated:
        return _compiled(get_args(wanted)[0])
    if type(wanted).__name__ == "TypeAliasType" and origin is None:  # `type Name = ...` of Python 3.12
        return _compiled(wanted.__value__)
    if wanted is None or wanted is type(None):
        return frozenset({type(None)}), lambda value: value is None
    if origin is Union or origin is types.UnionType:
        return _union(get_args(wanted))
    if origin is Literal:
        options = get_args(wanted)
        return frozenset(), lambda value: any(value == option for option in options)
    kind = origin or wanted
    if is_typeddict(kind):
        kind = dict
    if not isinstance(kind, type):
        return _UNCHECKED
    if kind in _SIMPLE:
        return frozenset({kind}), _simple(kind)
    if kind in _COLLECTIONS:
        return _collection(kind, get_args(wanted))
    if kind in _MAPPINGS:
        return _mapping(get_args(wanted))
    if origin is None and issubclass(kind, models.Model):
        return frozenset({kind}), _record(kind)
    if origin is None and issubclass(kind, Enum):
        return frozenset({kind}), _enum(kind)
    return _UNCHECKED


def _or_default(fits: Fits, default: object) -> Fits:
    return lambda value: fits(value) or value is default or (type(value) is type(default) and value == default)


def _union(members: Sequence[Any]) -> _Compiled:
    compiled = [_compiled(member) for member in members]
    checks = [fits for _, fits in compiled if fits is not None]
    if len(checks) < len(compiled):
        return _UNCHECKED
    exact: frozenset[type] = frozenset().union(*(each for each, _ in compiled))
    return exact, lambda value: any(fits(value) for fits in checks)


# What passes for a simple type beside its own instances and those of its subclasses.
_SIMPLE: dict[type, tuple[type, ...]] = {
    bool: (),
    int: (),
    float: (int, Decimal),
    Decimal: (int, float),
    str: (Promise,),
    bytes: (),
    date: (),
    datetime: (),
    time: (),
    timedelta: (),
    UUID: (),
}


def _simple(kind: type) -> Fits:
    kinds = (kind, *_SIMPLE[kind])
    if kind is bool:  # databases return 0 and 1 for them
        return lambda value: isinstance(value, bool) or (type(value) is int and value in (0, 1))
    return lambda value: isinstance(value, kinds)


def _record(model: type[models.Model]) -> Fits:
    wanted = getattr(getattr(model, "_meta", None), "concrete_model", None) or model  # an abstract model has none

    def fits(value: Any) -> bool:
        if isinstance(value, wanted):
            return True
        if not isinstance(value, models.Model):
            return False
        try:  # a record of a migration's state is of a class of its own
            real = apps.get_model(value._meta.label)
        except Exception:  # of a mock, too, which is refused when it is encoded
            return True
        return issubclass(real, wanted)

    return fits


def _enum(kind: type[Enum]) -> Fits:
    if not issubclass(kind, str | int):
        return lambda value: isinstance(value, kind)
    if not kind.__members__:  # a base class of enums, as TextChoices itself
        return lambda value: isinstance(value, str | int)

    def fits(value: Any) -> bool:  # fields of models hold the value of a member of TextChoices
        if isinstance(value, kind):
            return True
        try:
            return isinstance(value, str | int) and kind(value) is not None
        except Exception:  # ValueError, or of the project's `_missing_`
            return False

    return fits


_COLLECTIONS: dict[Any, tuple[type, ...]] = dict.fromkeys(
    (list, tuple, set, frozenset), (list, tuple, set, frozenset, range, LazyObject)
) | dict.fromkeys(
    (abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable, abc.Set, abc.MutableSet, abc.Container),
    (list, tuple, set, frozenset, range, str, bytes, dict, LazyObject),
)
_MAPPINGS = frozenset((dict, abc.Mapping, abc.MutableMapping))


def _collection(kind: type, of: Sequence[Any]) -> _Compiled:
    kinds = _COLLECTIONS[kind]
    if kind is tuple and of and of[-1] is not Ellipsis:
        return _fixed(of)
    exact, fits = _compiled(of[0]) if of else _UNCHECKED
    if fits is None:
        return frozenset({kind}), lambda value: isinstance(value, kinds)
    item = fits

    def all_fit(value: Any) -> bool:
        if not isinstance(value, kinds):
            return False
        items: Any = () if isinstance(value, str | bytes | dict | range | LazyObject) else value
        return all(type(each) in exact or item(each) for each in items)

    return frozenset(), all_fit


def _fixed(of: Sequence[Any]) -> _Compiled:
    """Return the check of `tuple[int, str]`."""
    if any(get_origin(each) is Unpack or getattr(each, "__unpacked__", False) for each in of):
        return _compiled(tuple)  # of no certain length
    checks = [_compiled(each)[1] for each in of]

    def all_fit(value: Any) -> bool:
        if not isinstance(value, list | tuple) or len(value) != len(checks):
            return False
        return all(fits is None or fits(each) for fits, each in zip(checks, value, strict=True))

    return frozenset(), all_fit


def _mapping(of: Sequence[Any]) -> _Compiled:
    checks = [_compiled(each)[1] for each in of] or [None, None]
    if len(checks) != 2 or checks == [None, None]:
        return frozenset({dict}), lambda value: isinstance(value, dict | LazyObject)
    of_key, of_value = checks

    def all_fit(value: Any) -> bool:
        if not isinstance(value, dict):
            return isinstance(value, LazyObject)
        return (of_key is None or all(map(of_key, value))) and (of_value is None or all(map(of_value, value.values())))

    return frozenset(), all_fit
