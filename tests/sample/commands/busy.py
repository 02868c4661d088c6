"""Commands that spend their time in functions of their own, by which a profile is known."""

import asyncio
import time

from jobs import Mandate


def compute(seconds: float) -> None:
    """Compute for seconds of the thread's own time: another process's do not count."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(100))


def compute_otherwise(seconds: float) -> None:
    compute(seconds)


class Compute(Mandate):
    retries = 0
    seconds: float
    fails: bool = False

    def call(self) -> str:
        compute(self.seconds)
        if self.fails:
            raise RuntimeError("as planned")
        return "done"


class ComputeOtherwise(Compute):
    def call(self) -> str:
        compute_otherwise(self.seconds)
        return "done"


class ComputeAlways(Compute):
    profile_rate = 1


class ComputeAsync(Compute):
    async def call(self) -> str:
        await asyncio.sleep(self.seconds)
        compute(self.seconds)
        return "done"


def descend(depth: int) -> None:
    if depth:
        descend(depth - 1)
    else:
        compute(0.05)


class DescendFar(Mandate):
    def call(self) -> None:
        descend(900)
