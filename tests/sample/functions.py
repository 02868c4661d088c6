"""Plain functions that jobs may call, and things beside them that they may not."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from os import system  # noqa: F401
from pathlib import Path

import django_rq

from tests.sample.commands.ledger import Record
from tests.sample.models import Note


def add(left: int, right: int) -> int:
    return left + right


@django_rq.job
def decorated(left: int, right: int) -> int:
    return left + right


def write_note(text: str) -> int:
    return Note.objects.create(text=text).pk


def count_lazily() -> Iterator[int]:
    yield 1


class Counter:
    def grow(self) -> None:
        pass


def fail() -> None:
    raise RuntimeError("no luck")


def fail_with(text: str) -> None:
    raise RuntimeError(text)


def fail_once(name: str) -> str:
    """Fails the first time it is run under this name."""
    _, is_first = Note.objects.get_or_create(text=name)
    if is_first:
        raise RuntimeError("not yet")
    return name


def note_success(job: object, connection: object, result: object, *args: object) -> None:
    Note.objects.create(text=f"success: {result}")


def note_failure(job: object, connection: object, kind: type, *args: object) -> None:
    Note.objects.create(text=f"failure: {kind.__name__}")


def nap(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)


async def wait_async(seconds: float) -> None:
    await asyncio.sleep(seconds)


def note_slowly(*about: object) -> None:
    nap(1.5)
    Note.objects.create(text="slowly")


def nap_on_success(*about: object) -> None:
    nap(60)


def record(number: int, seconds: float, fails: bool, size: int = 0) -> str | None:
    """What the command `sample.Record` does."""
    return Record(number, seconds, fails, size).call()


def wait(release: str) -> None:
    """Takes as long as its file says: until there is one of that name."""
    Note.objects.create(text="begun")
    while not Path(release).exists():
        time.sleep(0.01)
    Note.objects.create(text="over")


def wait_and_fail(release: str) -> None:
    wait(release)
    raise RuntimeError("no luck")


def change_surroundings():
    from tests.sample.commands import leaks

    leaks.ChangeContext().call()
    leaks.ChangeSession().call()


def fork_and_return():
    """The copy returns, too; this process returns its exit code."""
    pid = os.fork()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else 99


async def name_thread() -> str:
    await asyncio.sleep(0)
    return threading.current_thread().name
