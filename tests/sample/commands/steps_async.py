import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, ClassVar

from asgiref.sync import sync_to_async

from jobs import Mandate
from tests.sample.models import Note


class AsyncPlan(Mandate):
    """Does what a test has planned, and notes in `did` what it has done."""

    retries = 3
    result_ttl = 3_600
    plan: str

    plans: ClassVar[dict[str, Callable[["AsyncPlan"], Coroutine[Any, Any, Any]]]] = {}
    did: ClassVar[list[Any]] = []

    async def call(self) -> Any:
        return await self.plans[self.plan](self)

    async def numbers(self, most: int) -> AsyncIterator[int]:
        for number in range(most):
            await asyncio.sleep(0)
            yield number


class StepsOnLoop(Mandate):
    """Has a step on the event loop, one in a lent thread, loops, and one that takes longer than the time limit."""

    timeout = 2
    retries = 0

    async def call(self) -> list[Any]:
        first = self.step(lambda: 1, name="first")
        second = await sync_to_async(self.step)(lambda: 2, name="second")
        texts = [note.text async for note in self.each(Note.objects.all(), name="notes")]
        for _ in self.each(range(15)):
            await asyncio.sleep(0.1)
        async for _ in self.each(self.some(), name="some"):
            await asyncio.sleep(0.1)
        return [first, second, *texts]

    async def some(self) -> AsyncIterator[int]:
        for number in range(15):
            yield number


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
