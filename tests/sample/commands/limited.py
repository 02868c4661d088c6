import os
import signal
import time
from pathlib import Path

from jobs import Concurrency, Mandate, Rate, limit
from tests.sample.models import Note


class OneAtATime(Mandate):
    limits = [Concurrency(1)]
    result_ttl = 0
    number: int = 0

    def call(self) -> int:
        return self.number


class OnePerShop(Mandate):
    limits = [Concurrency(1, key="shop")]
    shop: str

    def call(self) -> None:
        pass


class TwoOrNone(Mandate):
    limits = [Concurrency(2, on_full="discard")]

    def call(self) -> None:
        pass


class NeedsA(Mandate):
    limits = [Concurrency(1, group="a")]

    def call(self) -> None:
        pass


class NeedsB(Mandate):
    limits = [Concurrency(1, group="b")]

    def call(self) -> None:
        pass


class NeedsBoth(Mandate):
    limits = [Concurrency(1, group="a"), Concurrency(1, group="b")]

    def call(self) -> None:
        pass


class Rated(Mandate):
    limits = [Rate(2, per=60)]
    number: int = 0

    def call(self) -> None:
        pass


class ByMethod(Mandate):
    @staticmethod
    def parity(number: int) -> str:
        if number < 0:
            raise ValueError(f"{number} is negative")
        return "even" if number % 2 == 0 else "odd"

    limits = [Concurrency(1, key=parity)]
    number: int

    def call(self) -> None:
        pass


class TwoAtOnce(Mandate):
    limits = [Concurrency(2)]

    def call(self) -> None:
        pass


class TooManyError(Exception):
    pass


class SlowsDown(Mandate):
    limits = [Rate(100, per=1, key="shop", group="api"), Concurrency(5)]
    limit_on = {TooManyError: lambda error: error.args[0]}
    shop: str
    how: str = "slow_down"

    def call(self) -> None:
        if self.how == "slow_down":
            self.slow_down(30, group="api")
        if self.how == "limit_on":
            raise TooManyError(40)


class AsksInside(Mandate):
    def call(self) -> None:
        with limit("api", Rate(1, per=60), wait=0):
            pass


class AsksAwait(Mandate):
    async def call(self) -> None:
        async with limit("api", Rate(1, per=60), wait=0):
            pass


class Turn(Mandate):
    share = "tenant"
    tenant: str
    number: int = 0

    def call(self) -> None:
        pass


class WeightedTurn(Mandate):
    tenant: str
    number: int = 0

    @staticmethod
    def share(tenant: str, number: int = 0) -> tuple[str, int]:
        return tenant, 3 if tenant == "a" else 1

    def call(self) -> None:
        pass


class OneTurn(Mandate):
    share = "tenant"
    limits = [Concurrency(1)]
    tenant: str

    def call(self) -> None:
        pass


class Plain(Mandate):
    result_ttl = 0

    def call(self) -> None:
        pass


class Wide(Mandate):
    result_ttl = 0
    limits = [Concurrency(1000)]

    def call(self) -> None:
        pass


class Stubborn(Mandate):
    """Writes when it enters and when it leaves; the first one does not obey an interrupt at once."""

    limits = [Concurrency(1)]
    name: str

    def call(self) -> None:
        until, was_interrupted, has_left = time.monotonic() + (20 if self.name == "first" else 0), False, False
        while not has_left:
            try:  # an interrupt comes at any call, and again each second
                Note.objects.get_or_create(text=f"{self.name} enters")
                if was_interrupted:
                    until = min(until, time.monotonic() + 0.5)
                while time.monotonic() < until:
                    time.sleep(0.01)
                if was_interrupted:
                    Note.objects.get_or_create(text="interrupted")
                Note.objects.get_or_create(text=f"{self.name} leaves")
                has_left = True
            except BaseException:
                was_interrupted = True


class KillsItsWorker(Mandate):
    limits = [Concurrency(1)]
    path: str
    number: int

    def call(self) -> None:
        Note.objects.create(text=f"{self.number} enters")
        if self.number == 0 and not Path(self.path).exists():
            Path(self.path).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        Note.objects.create(text=f"{self.number} leaves")
