"""Builds a new job of a command: binds and encodes its arguments, and adds class options that are not the default."""

import dataclasses
import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from jobs import conf, queues
from jobs.broker import keys
from jobs.broker.connections import Word
from jobs.client import field_types, options
from jobs.errors import CommandDefinitionError, SerializationError
from jobs.limits import values
from jobs.outbox import rows
from jobs.record import arguments, more, payload, registry
from jobs.record.new_jobs import Collapsing, Lock, NewJob
from jobs.record.prerequisites import NONE, Prerequisites
from jobs.record.registry import CommandClass
from jobs.retries import seconds_of

KEPT = "kept"  # field `durable` of a job whose end is reported to the outbox


def new_job(
    command: type[CommandClass],
    args: Sequence[Any],
    fields: Mapping[str, Any],
    *,
    due: float | None = None,
    **shared: Any,
) -> NewJob:
    """
    Return the job that `defer` is about to write. `due` is that of NewJob; `shared` are the options of `builder`, whose
    errors it raises.
    """
    return builder(command, **shared)(queues.new_id(), args, fields, due)


def builder(
    command: type[CommandClass],
    *,
    queue: str,
    prerequisites: Prerequisites = NONE,
    context: bytes = b"",
    profile: bool = False,
    is_wait: bool = False,
    durable: bool = False,
) -> Callable[[str, Sequence[Any], Mapping[str, Any], float | None], NewJob]:
    """
    Return a function that builds jobs of a command by id, arguments and `due`. `is_wait` is that of NewJob, `context`
    the result of `context.capture`, `profile` whether the attempts are profiled, `durable` the answer of
    `outbox.hooks.is_durable`. CommandDefinitionError for a command that cannot be deferred.

    The function raises TypeError for fields that do not match or have another type than annotated, SerializationError
    for an argument that cannot be serialized.
    """
    name = registry.name_of(command)
    if not command.has_call():
        raise CommandDefinitionError(f"{name} cannot be deferred: it has no `call`.")
    further = _further_fields(command, context, profile)
    if durable:
        further = more.added((*further, "durable", KEPT), more.FEW) if rows.are_kept() else (*further, "durable", 1)
    for_loop = more.added(further, more.ASYNC)
    is_unique, collapses = command.unique_for is not None, command.collapse is not None
    is_shared = command.share is not None or conf.get("SHARE") is not None
    is_limited = is_shared or bool(command.limits)
    expires_in = None if command.expires_in is None else seconds_of(command.expires_in)

    def build(job_id: str, args: Sequence[Any], fields: Mapping[str, Any], due: float | None) -> NewJob:
        try:
            bound = command(*args, **fields)  # binds the arguments here: an error is the caller's, not the worker's
        except TypeError as error:
            raise _misfit(command, name, args, fields) or error from None
        data = payload.build(name, _encoded(command, name, args), _encoded_named(name, fields))
        field_types.check(command, bound, args, fields)
        lock = _lock(command, name, bound, args, fields) if is_unique else None
        own, share = for_loop if bound.is_async else further, ()
        if is_limited:
            limits = values.fields(command, name, bound, args, fields) if command.limits else ()
            share = values.share(command, name, bound, args, fields) if is_shared else ()
            own = more.added(own + together, more.LIMITS) if (together := values.together(limits, share)) else own
        into = _collapsing(command, name, bound, args, fields) if collapses else None
        new = NewJob(job_id, queue, data, due, own, prerequisites, lock, False, is_wait, expires_in, durable, into)
        return new._replace(share=share[1]) if share else new

    return build


def _further_fields(command: type[CommandClass], context: bytes, profile: bool) -> tuple[Word, ...]:
    """Return the fields of its record beside the payload; options at their default are left out."""
    fields: tuple[Word, ...] = ()
    if command.timeout != options.DEFAULTS["timeout"]:
        fields += ("timeout", -1 if command.timeout is None else repr(command.timeout))
    if command.result_ttl != options.DEFAULTS["result_ttl"]:
        fields += ("result_ttl", command.result_ttl)
    if context:
        fields += ("context", context)
    if profile:
        fields += ("profile", 1)
    if context or profile or command.expires_in is not None:
        fields = more.added(fields, more.FEW)
    return fields


def _lock(command: type[CommandClass], name: str, bound: Any, args: Sequence[Any], fields: Mapping[str, Any]) -> Lock:
    """Return the lock of equal jobs: those with the same fields, however passed, or with the same `unique_key`."""
    if command.unique_key is not None:
        same = command.unique_key(*args, **fields)
    else:
        same = [getattr(bound, field.name) for field in dataclasses.fields(bound) if field.init]
    return Lock(keys.unique(name, _digest(name, "unique_key", same)), seconds_of(command.unique_for))


def _collapsing(
    command: type[CommandClass], name: str, bound: Any, args: Sequence[Any], fields: Mapping[str, Any]
) -> Collapsing:
    """Return how a push of these arguments collapses."""
    collapse = command.collapse
    key = keys.collapse(name, _digest(name, "collapse", collapse.value_of(bound, args, fields)))
    return Collapsing(key, collapse.seconds, collapse.seconds_at_most, collapse.keep)


def _digest(name: str, option: str, value: Any) -> str:
    """Return a digest of a value that identifies jobs of a command. SerializationError, naming the option."""
    try:
        text = orjson.dumps([name, _in_order(arguments.encode(value))], option=orjson.OPT_SORT_KEYS)
    except SerializationError as error:
        raise _unsendable(name, option, error) from None
    return hashlib.sha1(text, usedforsecurity=False).hexdigest()


def _in_order(encoded: Any) -> Any:
    """The same, whatever the order in which dicts whose keys are no texts were filled."""
    if isinstance(encoded, list):
        return [_in_order(each) for each in encoded]
    if isinstance(encoded, dict):
        known = {name: _in_order(each) for name, each in encoded.items()}
        if isinstance(pairs := known.get("$dict"), list):
            known["$dict"] = sorted(pairs, key=lambda pair: orjson.dumps(pair, option=orjson.OPT_SORT_KEYS))
        return known
    return encoded


def _misfit(command: type, name: str, args: Sequence[Any], fields: Mapping[str, Any]) -> TypeError | None:
    signature = inspect.signature(command)
    try:
        signature.bind(*args, **fields)
    except TypeError as error:
        return TypeError(
            f"{name} cannot be deferred: {error}. It takes {signature.replace(return_annotation=signature.empty)}."
        )
    return None


def _encoded(command: type, name: str, args: Sequence[Any]) -> list[Any]:
    encoded = []
    for position, value in enumerate(args):
        try:
            encoded.append(arguments.encode(value))
        except SerializationError as error:
            raise _unsendable(name, list(inspect.signature(command).parameters)[position], error) from None
    return encoded


def _encoded_named(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    encoded = {}
    for field, value in fields.items():
        try:
            encoded[field] = arguments.encode(value)
        except SerializationError as error:
            raise _unsendable(name, field, error) from None
    return encoded


def _unsendable(name: str, field: str, error: SerializationError) -> SerializationError:
    return SerializationError(f"{name} cannot be deferred: its argument {field!r}, or something in it, {error}.")
