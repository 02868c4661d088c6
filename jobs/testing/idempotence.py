"""Checks that a command may run twice, as every job may."""

from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import router
from django.test.testcases import DatabaseOperationForbidden  # type: ignore[attr-defined]

from jobs.record import arguments

if TYPE_CHECKING:
    from jobs.mandate import Mandate

Rows = dict[str, dict[Any, dict[str, Any]]]  # by model and primary key


def assert_idempotent(command: "type[Mandate]", *args: Any, **fields: Any) -> None:
    """
    Run a command twice with the same arguments: the second run must not change the database.

    Both runs get their arguments as a job does: through JSON, with records fetched. Every managed model of every
    installed app is compared, on the database that it is written to, if the test may use that database. Raises an
    AssertionError that names each row that the second run has added, changed or removed.
    """
    sent = arguments.encode([list(args), fields])
    _run(command, sent)
    first = _rows()
    _run(command, sent)
    second = _rows()
    changes = [
        f"\n  {model} {key}: {_difference(first[model].get(key), second[model].get(key))}"
        for model in first
        for key in sorted(first[model].keys() | second[model].keys(), key=str)
        if first[model].get(key) != second[model].get(key)
    ]
    if changes:
        raise AssertionError(f"{command.__qualname__} is not idempotent. Its second run changed:{''.join(changes)}")


def _run(command: "type[Mandate]", sent: Any) -> None:
    args, fields = arguments.decode(sent)
    command.run(*args, **fields)


def _rows() -> Rows:
    by_model: Rows = {}
    for model in apps.get_models(include_auto_created=True):
        database = router.db_for_write(model)
        if not model._meta.managed or model._meta.proxy or not router.allow_migrate_model(database, model):
            continue
        names = [field.attname for field in model._meta.local_concrete_fields]
        try:
            rows = {row.pop("pk"): row for row in model._base_manager.using(database).values("pk", *names)}
        except DatabaseOperationForbidden:  # the test may not use that database, so the command did not
            continue
        by_model[model._meta.label] = rows
    return by_model


def _difference(before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
    if before is None:
        return "added"
    if after is None:
        return "removed"
    changed = (f"{name} from {before[name]!r} to {after[name]!r}" for name in before if before[name] != after[name])
    return ", ".join(changed)
