"""Whether a command may run twice, as every job may."""

from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import router

if TYPE_CHECKING:
    from jobs.mandate import Mandate

Rows = dict[str, dict[Any, dict[str, Any]]]  # by model and primary key


def assert_idempotent(command: "type[Mandate]", *args: Any, **fields: Any) -> None:
    """
    Run a command twice with the same arguments: the second run must leave the database as the first did.

    Every managed model of every installed app is compared, on the database that it is written to. AssertionError
    naming each row that the second run has added, changed or removed.
    """
    command.run(*args, **fields)
    first = _rows()
    command.run(*args, **fields)
    second = _rows()
    changes = [
        f"\n  {model} {key}: {_difference(first[model].get(key), second[model].get(key))}"
        for model in first
        for key in sorted(first[model].keys() | second[model].keys(), key=str)
        if first[model].get(key) != second[model].get(key)
    ]
    if changes:
        raise AssertionError(f"{command.__qualname__} is not idempotent. The second run changed:{''.join(changes)}")


def _rows() -> Rows:
    found: Rows = {}
    for model in apps.get_models():
        if model._meta.managed and not model._meta.proxy:
            rows = model._base_manager.using(router.db_for_write(model)).values()
            found[model._meta.label] = {row[model._meta.pk.attname]: row for row in rows}
    return found


def _difference(before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
    if before is None:
        return "added"
    if after is None:
        return "removed"
    changed = (f"{name} from {before[name]!r} to {after[name]!r}" for name in before if before[name] != after[name])
    return ", ".join(changed)
