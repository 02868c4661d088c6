"""
Functions whose body does not run when they are called, and the values that such a call returns.

A command that returned one of these values would be finished, although nothing ran.
"""

import asyncio
import contextlib
import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from typing import Any

from asgiref.sync import async_to_sync

GENERATOR = "a generator function"
ASYNC_GENERATOR = "an async generator function"
COROUTINE = "a coroutine function"

# The first match counts. The abstract classes match compiled generators and coroutines, too.
_UNRUN: tuple[tuple[type, str], ...] = (
    (Generator, "a generator, so its body has not run. Do the work without `yield`"),
    (AsyncGenerator, "an async generator, so its body has not run. Do the work without `yield`"),
    (Coroutine, "a coroutine nobody awaited, so its body has not run. Await it"),
    (Awaitable, "an awaitable nobody awaited, so its work may not be done. Await it"),
    (contextlib._GeneratorContextManager, "a context manager nobody entered, so its body has not run. Use `with`"),
    (
        contextlib._AsyncGeneratorContextManager,
        "a context manager nobody entered, so its body has not run. Use `async with`",
    ),
    (map, "a `map`, which has called nothing yet. Loop over it"),
    (filter, "a `filter`, which has called nothing yet. Loop over it"),
)
_KINDS = tuple(kind for kind, _ in _UNRUN)


def kind_of(function: Any) -> str:
    """
    Return GENERATOR, ASYNC_GENERATOR or COROUTINE; "" for a function whose body runs when it is called.

    Unwraps methods and partial functions. A decorator's wrapper counts as itself, since it may well run what it
    wraps; if it does not, `checked` refuses its result.

    Args:
        function: a function, anything else that can be called, or a method as it stands in its class.
    """
    while isinstance(function, staticmethod | classmethod | functools.partial | functools.partialmethod):
        function = function.__func__ if isinstance(function, staticmethod | classmethod) else function.func
    for called in (function, type(function).__call__):
        if inspect.isgeneratorfunction(called):
            return GENERATOR
        if inspect.isasyncgenfunction(called):
            return ASYNC_GENERATOR
        if inspect.iscoroutinefunction(called):
            return COROUTINE
    return ""


def checked(result: Any, name: str) -> Any:
    """
    Return the result of a call, if the call has done its work.

    Args:
        result: the returned value. It is closed, or cancelled, if it is refused.
        name: of the function, for the message.

    Raises:
        TypeError: for a generator, a coroutine or another awaitable, and any other result that has not run yet.
    """
    if result is None or not issubclass(type(result), _KINDS):  # its type: a lazy object may be anything
        return result
    what = next(what for kind, what in _UNRUN if issubclass(type(result), kind))
    _close(result)
    raise TypeError(f"{name} returned {what}.")


def call(function: Callable[..., Any], *args: Any, name: str) -> Any:
    """
    Call a hook or a handler; a coroutine function is run to completion.

    Args:
        function: a function, a bound method or anything else that can be called.
        args: its arguments.
        name: of the function, for the message.

    Raises:
        TypeError: if the call has not done its work; see `checked`.
    """
    if kind_of(function) == COROUTINE:
        function = async_to_sync(function)
    return checked(function(*args), name)


def _close(result: Any) -> None:
    """Close it, so that Python does not warn later that it was never awaited. The refusal is error enough."""
    with contextlib.suppress(Exception):
        if isinstance(result, asyncio.Future):
            result.cancel()
        elif isinstance(result, Generator | Coroutine):
            result.close()
