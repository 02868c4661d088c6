"""Which plain functions a job may call. A payload is data that somebody wrote to Redis: it must not choose freely."""

from collections.abc import Callable
from importlib import import_module
from types import FunctionType
from typing import Any

from django.apps import apps
from django.utils.module_loading import import_string

from jobs import conf
from jobs.errors import ForbiddenFunctionError


def resolve(path: object) -> Callable[..., Any]:
    """
    Return the function at a dotted path, if jobs may call it.

    It may be called when it is `perform`, is listed in JOBS["ALLOWED_FUNCTIONS"], or is defined at the top of a module
    of an installed app: its own `__module__` says so, so `users.views.system` does not pass where `users.views` merely
    imported it from `os`. Nothing outside the installed apps is imported.

    Raises ForbiddenFunctionError otherwise.
    """
    if not isinstance(path, str):
        raise ForbiddenFunctionError(f"A job's function must be named by a dotted path, not {type(path).__name__}.")
    if path in conf.get("ALLOWED_FUNCTIONS"):
        return import_string(path)  # type: ignore[no-any-return]
    module, _, name = path.rpartition(".")
    if module and apps.get_containing_app_config(module) is not None:
        try:
            function = vars(import_module(module)).get(name)
        except ImportError:
            function = None
        if isinstance(function, FunctionType) and (function.__module__, function.__qualname__) == (
            module,
            name,
        ):
            return function
    raise ForbiddenFunctionError(
        f"Jobs may not call {path!r}: it is not a function defined at the top of a module of an installed app. "
        'Define it there, or list it in JOBS["ALLOWED_FUNCTIONS"].'
    )
