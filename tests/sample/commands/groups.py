"""Commands whose errors come in groups."""

import asyncio

from jobs import Mandate
from jobs.attempts.interrupt import Stopped, TimedOut
from tests.sample.commands.trouble import ERRORS, FlakyError, Ruled

KINDS = {**ERRORS, "stopped": Stopped, "timed out": TimedOut, "cancelled": asyncio.CancelledError}


class InTaskGroup(Mandate):
    """Fails in the tasks of a TaskGroup; "requeue 30" asks for that, once."""

    retries, retry_on, discard_on = Ruled.retries, Ruled.retry_on, Ruled.discard_on
    max_requeues = 3
    kinds: list[str]
    is_nested: bool = False

    async def call(self) -> str:
        async with asyncio.TaskGroup() as group:
            for kind in self.kinds:
                group.create_task(self._nest(kind) if self.is_nested else self._fail(kind))
        return "through"

    async def _nest(self, kind: str) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._fail(kind))

    async def _fail(self, kind: str) -> None:
        name, _, wait = kind.partition(" ")
        if name != "requeue":
            raise KINDS[kind]("as planned")
        if self.job.progress.requeues < 1:
            self.requeue_job(float(wait))


class InGroup(Mandate):
    """Raises a group without a loop."""

    retries, retry_on, discard_on = Ruled.retries, Ruled.retry_on, Ruled.discard_on
    kinds: list[str]

    def call(self) -> None:
        raise BaseExceptionGroup("several", [KINDS[kind]("as planned") for kind in self.kinds])


class RequeueOnFlaky(Mandate):
    """Asks for a requeue in `except*`, which makes a group of that."""

    def call(self) -> str:
        try:
            if self.job.progress.requeues < 1:
                raise FlakyError("as planned")
        except* FlakyError:
            self.requeue_job(30)
        return "through"


class CleanUpBadly(Mandate):
    """Its tasks fail as they are cancelled."""

    timeout = 1
    retries = 0

    async def call(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sleep())

    async def _sleep(self) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise RuntimeError("while it was cancelled")
