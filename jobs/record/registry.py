"""
Commands by name. A payload names its command `app_label.ClassName`, like a model's label, so that moving a module
strands no job. A payload can run only commands that are registered here.
"""

import pkgutil
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from importlib import import_module
from typing import Any, ClassVar, Protocol

from django.apps import apps
from django.utils.module_loading import module_has_submodule

from jobs.errors import CommandDefinitionError, UnknownCommandError


class CommandClass(Protocol):
    """The attributes of a command's class that the client reads. `jobs.Mandate`, above the client, is such a class."""

    queue: ClassVar[str]
    timeout: ClassVar[float | None]
    expires_in: ClassVar[float | timedelta | None]
    unique_for: ClassVar[float | timedelta | None]
    limits: ClassVar[Sequence[Any]]
    collapse: ClassVar[Any]  # of jobs.limits, or None
    share: ClassVar[str | Callable[..., Any] | None]
    result_ttl: ClassVar[int]
    unique_key: ClassVar[Callable[..., Any] | None]
    is_async: ClassVar[bool]

    @classmethod
    def has_call(cls) -> bool:
        """Return whether the class defines `call`."""


_waiting: list[type] = []  # defined, but not named yet: a name needs the app registry
_commands: dict[str, type[Any]] = {}
_conflicts: list[tuple[str, type, type]] = []


def register(command: type) -> None:
    """Register a command class. Its name is computed at the first look-up, when all apps are loaded."""
    _waiting.append(command)


def name_of(command: type) -> str:
    """
    Return the command's name, `app_label.ClassName`.

    Raises CommandDefinitionError if its module belongs to no installed app: no worker could find it.
    """
    try:
        return command.__dict__["_command_name"]  # type: ignore[no-any-return]
    except KeyError:
        pass
    app = apps.get_containing_app_config(command.__module__)
    if app is None:
        raise CommandDefinitionError(
            f"{command.__module__}.{command.__qualname__} cannot be deferred: its module belongs to no installed app, "
            "so no worker would find it. Move it into an app's `commands`, or add its app to INSTALLED_APPS."
        )
    name = f"{app.label}.{command.__name__}"
    command._command_name = name  # type: ignore[attr-defined]
    return name


def get(name: str) -> type:
    """Return the command class of that name. UnknownCommandError if no installed app defines it."""
    if _waiting:
        _settle()
    try:
        return _commands[name]
    except (KeyError, TypeError):  # a payload may hold anything where the name should be
        raise UnknownCommandError(
            f"Unknown command: {name!r}. No `commands` module of an installed app defines it. Either this release is "
            "older than the one that enqueued the job, or the command was renamed or removed."
        ) from None


def knows(name: str) -> bool:
    """Whether an installed app defines a command of that name."""
    _settle()
    return name in _commands


def all_commands() -> dict[str, type[Any]]:
    """Return every registered command by name."""
    _settle()
    return dict(_commands)


def conflicts() -> list[tuple[str, type, type]]:
    """Return names that two different classes claim: (name, first class, second class). The first keeps it."""
    _settle()
    return list(_conflicts)


def autodiscover() -> None:
    """Import the `commands` module, or every module of the `commands` package, of each installed app."""
    for app in apps.get_app_configs():
        if module_has_submodule(app.module, "commands"):
            for module in _modules_of(f"{app.name}.commands"):
                import_module(module)


def _modules_of(path: str) -> Iterator[str]:
    package = import_module(path)
    yield path
    for module in pkgutil.walk_packages(getattr(package, "__path__", ()), prefix=f"{path}."):
        yield module.name


def _settle() -> None:
    while _waiting:
        command = _waiting.pop(0)
        try:
            name = name_of(command)
        except CommandDefinitionError:
            continue  # it can still be run; `defer` says why it cannot be deferred
        first = _commands.setdefault(name, command)
        if (first.__module__, first.__qualname__) == (command.__module__, command.__qualname__):
            _commands[name] = command  # the same class, defined anew: a reload
        else:
            _conflicts.append((name, first, command))
