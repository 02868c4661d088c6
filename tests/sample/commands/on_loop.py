"""Async commands, for the event loop of a worker."""

import asyncio
import logging
import os
import threading
import time
from contextvars import ContextVar
from pathlib import Path
from typing import ClassVar

from asgiref.sync import sync_to_async
from django.db import connection, transaction
from django.utils import translation

from jobs import Concurrency, Mandate
from jobs.attempts.current import current
from tests.sample.models import Note

logger = logging.getLogger("tests")


class Await(Mandate):
    """Awaits, and says in which thread."""

    seconds: float = 0.0

    async def call(self) -> str:
        await asyncio.sleep(self.seconds)
        return threading.current_thread().name


class NameLoop(Mandate):
    """Returns the package of the event loop."""

    async def call(self) -> str:
        return type(asyncio.get_running_loop()).__module__.partition(".")[0]


class AwaitFile(Mandate):
    """Marks its begin, and awaits a file."""

    begun: str
    release: str
    timeout = 60

    async def call(self) -> None:
        Path(self.begun).touch()
        while not Path(self.release).exists():
            await asyncio.sleep(0.01)


class WriteAsync(Mandate):
    """Writes a note by the async ORM, in a lent thread."""

    text: str

    async def call(self) -> str:
        await Note.objects.acreate(text=self.text)
        note = await Note.objects.aget(text=self.text)
        return note.text


class AwaitLate(Mandate):
    """Awaits for ever, and notes its end."""

    timeout = 1
    retries = 0
    text: str = "cleaned up"

    async def call(self) -> None:
        try:
            await asyncio.sleep(1_000)
        finally:
            await Note.objects.acreate(text=self.text)


class Swallow(Mandate):
    """Swallows its first cancellation."""

    timeout = 1
    retries = 0

    async def call(self) -> None:
        try:
            await asyncio.sleep(1_000)
        except asyncio.CancelledError:
            await asyncio.sleep(1_000)


class SwallowAll(Mandate):
    """Swallows every cancellation."""

    timeout = 1
    retries = 0

    async def call(self) -> None:
        while True:
            try:
                await asyncio.sleep(1_000)
            except asyncio.CancelledError:
                continue


class QueryLate(Mandate):
    """Waits for the database in a lent thread."""

    timeout = 1
    retries = 0

    async def call(self) -> None:
        await sync_to_async(self.query)()

    def query(self) -> None:
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SELECT pg_sleep(100)")
            elif connection.vendor == "mysql":
                cursor.execute("SELECT SLEEP(100)")
            else:
                cursor.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")


class SpinInThread(Mandate):
    """Computes in a lent thread until it is stopped."""

    timeout = 1
    retries = 0

    async def call(self) -> None:
        await sync_to_async(self.spin)()

    def spin(self) -> None:
        while True:
            sum(range(1_000))


class CancelThread(Mandate):
    """Cancels a call that goes on in its thread, and ends itself meanwhile."""

    text: str = "the thread has returned"

    async def call(self) -> str:
        try:
            async with asyncio.timeout(0.1):
                await sync_to_async(self.write_slowly)()
        except TimeoutError:
            return "cancelled"
        return "not cancelled"

    def write_slowly(self) -> None:
        time.sleep(0.5)
        Note.objects.create(text=self.text)


class LeaveTask(Mandate):
    """Leaves a task behind."""

    async def call(self) -> None:
        self.left = asyncio.create_task(self.write())
        await asyncio.sleep(0)

    async def write(self) -> None:
        try:
            await asyncio.sleep(1_000)
        finally:
            await Note.objects.acreate(text="left")


class Block(Mandate):
    """Blocks the loop."""

    timeout = 600
    retries = 0
    seconds: float = 1.0

    async def call(self) -> None:
        time.sleep(self.seconds)


class RunLoop(Mandate):
    retries = 0

    async def call(self) -> None:
        coroutine = asyncio.sleep(0)
        try:
            asyncio.run(coroutine)
        finally:
            coroutine.close()


class EndLoop(Mandate):
    """Tries to end the loop: by its methods, by a task that raises SystemExit, and by cancelling all tasks."""

    retries = 0
    how: str

    async def call(self) -> str:
        if self.how == "stop":
            asyncio.get_running_loop().stop()
        elif self.how == "exit":
            raise SystemExit(3)
        elif self.how == "break":
            for task in asyncio.all_tasks():  # the engine's, too
                task.cancel()
        else:
            await asyncio.create_task(self.exit())
        await asyncio.sleep(0)
        return "goes on"

    async def exit(self) -> None:
        raise SystemExit(4)


class EndProcess(Mandate):
    """Ends its process at once: in its task, in a task that it has created, in a lent thread, or in a callback."""

    how: str

    async def call(self) -> None:
        if self.how == "task":
            await asyncio.create_task(self.end())
        elif self.how == "thread":
            await sync_to_async(os._exit)(9)
        elif self.how == "callback":
            asyncio.get_running_loop().call_soon(os._exit, 9)
            await asyncio.sleep(60)
        else:
            await self.end()

    async def end(self) -> None:
        await asyncio.sleep(0)
        os._exit(9)


class AcrossCalls(Mandate):
    """Uses one connection in several calls."""

    retries = 0
    how: str

    async def call(self) -> int:
        if self.how == "transaction":
            await sync_to_async(transaction.atomic().__enter__)()
        elif self.how == "cursor":
            cursor = await sync_to_async(self.cursor)()
            await sync_to_async(cursor.execute)("SELECT 2")
        elif self.how == "iterator":
            await Note.objects.abulk_create([Note(text=str(number)) for number in range(500)])
            return len([note async for note in Note.objects.aiterator(chunk_size=100)])
        return 0

    def cursor(self) -> object:
        cursor = connection.cursor()
        cursor.execute("SELECT 1")
        return cursor


class RequeueAsync(Mandate):
    """Asks to be run again, once."""

    async def call(self) -> str:
        attempt = current()
        assert attempt is not None
        if attempt.number == 1:
            self.requeue_job(0)
        return f"attempt {attempt.number}"


class FailAsync(Mandate):
    """Fails; its hooks are async, and write notes."""

    retries = 0

    async def call(self) -> None:
        raise RuntimeError("no luck")

    async def on_dead(self, error: BaseException) -> None:
        await Note.objects.acreate(text=f"on_dead: {error} in {threading.current_thread().name}")


class LateRelease(Mandate):
    """Async in this release; see `tests/jobs/worker/test_loop.py`."""

    text: str = ""

    async def call(self) -> str:
        return threading.current_thread().name


shared: list[str] = []  # what a lifespan makes


class InContext(Mandate):
    """Says in which context it runs, and changes it."""

    language: str = ""
    variable: ClassVar[ContextVar[str]]

    async def call(self) -> list[object]:
        if self.language:
            translation.activate(self.language)
        await asyncio.sleep(0.01)
        found = [self.variable.get(), translation.get_language(), len(shared)]
        self.variable.set("changed")
        return found


class OneAwaited(Mandate):
    limits = [Concurrency(1)]

    async def call(self) -> None:
        await asyncio.sleep(0)


class TalkAsync(Mandate):
    """Logs who it is, before and after it awaits."""

    keep_log = True
    name: str

    async def call(self) -> None:
        for _ in range(3):
            logger.warning("I am %s", self.name)
            await asyncio.sleep(0.02)
        await sync_to_async(logger.warning)("I am %s in a thread", self.name)


class AwaitNumber(Mandate):
    number: int

    async def call(self) -> int:
        await asyncio.sleep(0)
        return self.number + 1


class AwaitMember(Mandate):
    """Says of which batch it is a member."""

    async def call(self) -> str:
        assert self.batch is not None
        return await sync_to_async(lambda: self.batch.name)()
