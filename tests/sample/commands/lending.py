"""Async commands that use the database in random ways, and check that nobody else uses their connection meanwhile."""

import asyncio
import random
import time
from typing import ClassVar

from asgiref.sync import sync_to_async
from django.db import connection, transaction

from jobs import Mandate
from tests.sample.models import Note


class LendOut(Mandate):
    """Each step is an await, a call that may leave anything behind, or an end by an error."""

    retries = 0
    timeout = 60
    seed: int

    in_use: ClassVar[set[int]] = set()  # connections, by id()
    faults: ClassVar[list[str]] = []
    most: ClassVar[int] = 0

    async def call(self) -> None:
        dice = random.Random(self.seed)
        for _ in range(dice.randint(1, 6)):
            step = dice.choice(["query", "query", "orm", "leave open", "late", "sleep", "raise", "together"])
            if step == "query":
                await sync_to_async(self.use)(dice.random() / 100)
            elif step == "orm":
                await Note.objects.filter(pk=self.seed).afirst()
            elif step == "leave open":
                await sync_to_async(self.leave_open)()
            elif step == "late":
                try:
                    async with asyncio.timeout(dice.random() / 200):
                        await sync_to_async(self.use)(0.01)
                except TimeoutError:
                    continue
            elif step == "together":
                await asyncio.gather(*(sync_to_async(self.use)(0.002) for _ in range(3)))
            elif step == "sleep":
                await asyncio.sleep(dice.random() / 100)
            elif dice.random() < 0.3:
                raise RuntimeError("as planned")

    def use(self, seconds: float) -> None:
        if connection.in_atomic_block or not connection.get_autocommit():
            self.faults.append("in a transaction at the start of a call")
        raw = id(connection.connection)
        if raw in self.in_use:
            self.faults.append("used by two")
        self.in_use.add(raw)
        type(self).most = max(self.most, len(self.in_use))
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                time.sleep(seconds)
                cursor.fetchone()
        finally:
            self.in_use.discard(raw)

    def leave_open(self) -> None:
        self.use(0.001)
        transaction.atomic().__enter__()
        Note.objects.filter(pk=self.seed).first()
