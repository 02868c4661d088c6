import asyncio
import os
import time

from jobs import Concurrency, Mandate


class OneAwait(Mandate):
    limits = [Concurrency(1, group="either")]
    result_ttl = 0
    number: int = 0

    async def call(self) -> int:
        return self.number


class OneThread(Mandate):
    limits = [Concurrency(1, group="either")]
    result_ttl = 0
    number: int = 0

    def call(self) -> int:
        return self.number


class TwoAwait(Mandate):
    limits = [Concurrency(2)]

    async def call(self) -> None:
        pass


class Alone(Mandate):
    """Fails if another one runs, in a thread or on the loop."""

    limits = [Concurrency(1, group="alone")]
    retries = 0
    path: str

    def call(self) -> None:
        os.close(os.open(self.path, os.O_CREAT | os.O_EXCL))
        time.sleep(0.01)
        os.unlink(self.path)


class AloneAwait(Mandate):
    limits = [Concurrency(1, group="alone")]
    retries = 0
    path: str

    async def call(self) -> None:
        os.close(os.open(self.path, os.O_CREAT | os.O_EXCL))
        await asyncio.sleep(0.01)
        os.unlink(self.path)
