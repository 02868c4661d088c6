"""Commands that take their time, each in another way."""

import asyncio
import sys
import time
from pathlib import Path

from jobs import Mandate
from tests.sample.models import Note


class Spin(Mandate):
    """Computes until it is stopped."""

    timeout = 1
    retries = 0
    started: str = ""

    def call(self) -> None:
        if self.started:
            Path(self.started).touch()
        while True:
            try:
                sum(range(1_000))
            except Exception:  # noqa: S112
                continue  # swallows what it should not: the time-out is no Exception


class SpinLong(Spin):
    timeout = 600


class SleepAsync(Mandate):
    timeout = 1
    retries = 0

    async def call(self) -> None:
        while True:
            await asyncio.sleep(0.01)


class Deaf(Mandate):
    """Sits in C code, where no interrupt reaches it."""

    timeout = 1
    retries = 0

    def call(self) -> None:
        time.sleep(60)


class DeafForEver(Deaf):
    timeout = None


class AwaitLong(Mandate):
    async def call(self) -> None:
        await asyncio.sleep(1_000)


class Patient(Mandate):
    """Takes as long as its file says: until there is one of that name."""

    timeout = None
    started: str
    release: str

    def call(self) -> None:
        Path(self.started).touch()
        while not Path(self.release).exists():
            time.sleep(0.01)
        Note.objects.create(text=self.release)


class Exit(Mandate):
    retries = 0

    def call(self) -> None:
        sys.exit("a command must not end the worker")


class Interrupted(Mandate):
    retries = 0

    def call(self) -> None:
        raise KeyboardInterrupt
