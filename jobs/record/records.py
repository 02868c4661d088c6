"""
Records of models as arguments: sent as a reference, `{"$record": "users.User:7"}`, and fetched fresh when the job runs.

The key is the model's own text of its primary key, as in a fixture. Of a composite key that is a JSON list:
`{"$record": "shop.Line:[\"7\", \"2\"]"}`.
"""

from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS, models
from django.db.models.base import ModelState
from django.utils.connection import ConnectionDoesNotExist

from jobs.errors import MissingRecordError, NewerPayloadError, PayloadError, SerializationError

Records = dict[tuple[str, str], models.Model]  # by reference and database alias


def reference_to(value: models.Model) -> dict[str, str]:
    """Return the reference to a record. SerializationError for an unsaved one, or one that was deleted."""
    meta, state, key = value._meta, value._state, value.pk
    if state.adding or key is None or (type(key) is tuple and None in key):
        raise SerializationError(f"is an unsaved {meta.label}. Save it first: a job refers to its record")
    reference = {"$record": f"{meta.label}:{meta.pk.value_to_string(value)}"}
    alias = state.db or DEFAULT_DB_ALIAS
    return reference if alias == DEFAULT_DB_ALIAS else reference | {"using": alias}


def is_proxy(value: Any) -> bool:
    """Return whether an object stands for a record, as those of `wrapt` do; False for a mock of a model."""
    return isinstance(value, models.Model) and issubclass(type(getattr(value, "_state", None)), ModelState)


def model_of(label: str) -> type[models.Model]:
    """Return the model of a label, `users.User`. NewerPayloadError if this release does not have it."""
    try:
        return apps.get_model(label)
    except LookupError as error:
        raise NewerPayloadError(f"Unknown model {label!r}: no installed app of this release defines it.") from error


def fetch(references: Iterable[tuple[str, str]]) -> Records:
    """
    Fetch the records of these references and database aliases, with one query per model and database.

    Raises MissingRecordError naming every record that is gone, NewerPayloadError for a model or database that this
    release does not have, PayloadError for text that `reference_to` does not write.
    """
    wanted: dict[tuple[type[models.Model], str], dict[str, Any]] = {}
    for reference, alias in references:
        try:
            label, _, key = reference.partition(":")
            model = model_of(label)
            wanted.setdefault((model, alias), {})[reference] = _key(model, key)
        except (AttributeError, TypeError, ValueError, ValidationError) as error:
            raise PayloadError(f"Unreadable reference {reference!r}: {error}") from error

    found: Records = {}
    missing = []
    for (model, alias), keys in wanted.items():
        try:
            records = model._base_manager.using(alias).in_bulk(list(set(keys.values())))
        except ConnectionDoesNotExist as error:
            raise NewerPayloadError(f"No database {alias!r} here, but a reference names it: {error}") from error
        for reference, key in keys.items():
            if key in records:
                found[reference, alias] = records[key]
            else:
                missing.append(reference)
    if missing:
        raise MissingRecordError(missing)
    return found


def _key(model: type[models.Model], text: str) -> Any:
    key = model._meta.pk.to_python(text)
    return tuple(key) if isinstance(key, list) else key  # of a composite key
