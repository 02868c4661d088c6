"""The project's lifespan of an event loop: what `JOBS["LOOP_LIFESPAN"]` names, an async context manager."""

import inspect
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from jobs import conf


def find() -> Callable[[], AbstractAsyncContextManager[Any]]:
    """
    Return the function that makes the context manager; without the setting, one that does nothing.

    Raises ImproperlyConfigured for a path that cannot be imported, and for what makes no async context manager.
    """
    path = conf.get("LOOP_LIFESPAN")
    if path is None:
        return nullcontext
    try:
        found: Any = import_string(path)
    except Exception as error:  # the module's own code may raise anything
        raise ImproperlyConfigured(f"JOBS['LOOP_LIFESPAN'] = {path!r} cannot be imported: {error!r}") from error
    if problem := _problem(found):
        raise ImproperlyConfigured(f"JOBS['LOOP_LIFESPAN'] = {path!r} makes no async context manager: {problem}.")
    return found  # type: ignore[no-any-return]


def _problem(found: Any) -> str:
    if not callable(found):
        return f"{found!r} cannot be called"
    if inspect.isclass(found) and not (hasattr(found, "__aenter__") and hasattr(found, "__aexit__")):
        return "the class has no __aenter__ and __aexit__"
    if inspect.isasyncgenfunction(found):
        return "the function lacks the decorator contextlib.asynccontextmanager"
    if inspect.iscoroutinefunction(found):
        return "it is a coroutine function"
    if inspect.isgeneratorfunction(inspect.unwrap(found)):
        return "it is a plain function with `yield`, not an async one"
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        return f"it is called without arguments, and takes some ({error})"
    except ValueError:  # one of C that says nothing
        pass
    return ""
