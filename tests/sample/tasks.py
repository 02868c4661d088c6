"""Tasks of Django's own API."""

import asyncio
from typing import Any

from django.db import OperationalError

from jobs.tasks import task
from tests.sample.models import Note
from tests.sample.release import IS_OLD


@task
def add(left: int, right: int = 1) -> int:
    return left + right


@task(queue_name="low")
def write(text: str) -> None:
    Note.objects.create(text=text)


@task(takes_context=True)
def tell_attempt(context) -> list:
    return [context.task_result.id, context.attempt]


@task(takes_context=True)
def fail_first(context, name: str) -> int:
    """Fails the first time it is run under this name; gives the number of the attempt that did not."""
    _, is_first = Note.objects.get_or_create(text=name)
    if is_first:
        raise RuntimeError("not yet")
    return context.attempt


@task
async def add_async(left: int, right: int) -> int:
    return left + right


@task
async def wait_async(seconds: float) -> None:
    await asyncio.sleep(seconds)


@task
def fail(message: str) -> None:
    raise ValueError(message)


@task
def return_unrun(what: str) -> object:
    """Returns what has not run."""
    return (number for number in [1]) if what == "generator" else add_async.func(1, 2)


@task
def give_back(*values: object, **named: object) -> list:
    return [*values, named]


@task
def give(what: str) -> object:
    endless: list[object] = []
    endless.append(endless)
    values = {"nothing": None, "set": {1}, "not a number": float("nan"), "tuple": (1, b"two"), "number": {1: 2}}
    return {**values, "endless": endless, "odd": Odd(), "surrogate": "\ud800"}[what]


class Odd(dict[str, str]):
    """A value whose own code raises."""

    def items(self) -> Any:
        raise LookupError("no items")


@task
def fail_as(how: str) -> None:
    """Fails with an error that is not easily read out of a traceback."""
    if how == "lines":
        raise ValueError("first\nKeyError: second\n\n  third")
    if how == "chain":
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise OperationalError("outer") from error
    if how == "while":
        try:
            raise KeyError("inner")
        except KeyError:
            raise LookupError("outer")  # noqa: B904
    if how == "group":
        raise ExceptionGroup("both", [ValueError("one"), KeyError("two")])
    if how == "note":
        error = RuntimeError("noted")
        error.add_note("KeyError: a note")
        raise error
    if how == "exit":
        raise SystemExit(3)
    if how == "nested":
        raise ValueError(ValueError("in it"))
    if how == "deadlock":
        raise OperationalError("database is locked")


if not IS_OLD:

    @task
    def sweep(what: str) -> None:
        Note.objects.create(text=what)


no_task = add.func
