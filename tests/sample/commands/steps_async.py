import asyncio
from pathlib import Path

from asgiref.sync import sync_to_async

from jobs import Mandate


class StepsOnLoop(Mandate):
    """Has a step on the event loop, one in a lent thread, and a loop that takes longer than the time limit."""

    timeout = 2
    retries = 0

    async def call(self) -> list[int]:
        first = self.step(lambda: 1, name="first")
        second = await sync_to_async(self.step)(lambda: 2, name="second")
        for _ in self.each(range(30)):
            await asyncio.sleep(0.1)
        return [first, second]


class LoopUntil(Mandate):
    """Loops until a file is there."""

    path: str

    async def call(self) -> None:
        for number in self.each(range(10_000)):
            Path(f"{self.path}-{number}").touch()
            await asyncio.sleep(0.01)
            if Path(self.path).exists():
                break


class AddAwait(Mandate):
    """A step of a flow: takes the result of an earlier one, and knows its batch."""

    numbers: list[int]

    async def call(self) -> str:
        await asyncio.sleep(0)
        batch = await sync_to_async(lambda: self.batch)()
        return f"{sum(self.numbers)} in {batch.name if batch else None}"


class CountAwait(Mandate):
    retries = 0
    number: int

    async def call(self) -> list[int]:
        await asyncio.sleep(0)
        if self.number < 0:
            raise ValueError(self.number)
        return list(range(self.number))
