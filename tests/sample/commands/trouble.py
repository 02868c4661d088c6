"""Commands that fail, wait and are dropped, as their arguments say."""

from typing import ClassVar

from django.db import OperationalError, transaction

from jobs import Mandate, RetryOn
from tests.sample.models import Note


class FlakyError(ConnectionError):
    pass


class VeryFlakyError(FlakyError):
    pass


class HopelessError(ValueError):
    pass


ERRORS = {
    "flaky": FlakyError,
    "very flaky": VeryFlakyError,
    "hopeless": HopelessError,
    "broken": RuntimeError,
    "locked": lambda text: OperationalError("database is locked"),
}


class Trouble(Mandate):
    """Fails as often as it is told to, then comes through. Notes what its hooks were told."""

    told: ClassVar[list[tuple]] = []

    error: str = "broken"
    times: int = 1_000

    def call(self) -> str:
        mark = f"attempt {self.job.id}"
        Note.objects.create(text=mark)
        if Note.objects.filter(text=mark).count() <= self.times:
            raise ERRORS[self.error]("as planned")
        return "through"

    def on_retry(self, error: BaseException, attempt: int, delay: float) -> None:
        self.told.append(("retry", str(error), attempt, delay))

    def on_dead(self, error: BaseException) -> None:
        self.told.append(("dead", str(error)))

    def on_discard(self, reason: str) -> None:
        self.told.append(("discard", reason))


class TroubleTwice(Trouble):
    retries = 2


class TroubleOnce(Trouble):
    retries = 0


class Ruled(Trouble):
    retries = 1
    retry_on = [
        RetryOn(FlakyError, wait=10, attempts=3, jitter=0),
        RetryOn(VeryFlakyError, wait=lambda attempt, error: attempt * 100, attempts=9),
    ]
    discard_on = [HopelessError]


class Wrapped(Ruled):
    """Its error is the cause of another."""

    def call(self) -> str:
        try:
            return super().call()
        except Exception as error:
            raise RuntimeError("wrapped") from error


class BadHooks(Ruled):
    def on_retry(self, error: BaseException, attempt: int, delay: float) -> None:
        raise SystemExit("a hook")

    on_dead = on_discard = lambda self, *about: 1 / 0


class AsyncHooks(Ruled):
    """Its hooks are coroutine functions, and wait for the database."""

    async def on_retry(self, error: BaseException, attempt: int, delay: float) -> None:
        await Note.objects.acreate(text=f"retry {attempt}")

    async def on_dead(self, error: BaseException) -> None:
        await Note.objects.acreate(text=f"dead: {error}")

    async def on_discard(self, reason: str) -> None:
        await Note.objects.acreate(text=f"discard: {reason}")


class LazyHooks(Ruled):
    """Its hooks return what has not run."""

    on_retry = on_dead = lambda self, *about: (print(each) for each in about)


class ReturnUnrun(Mandate):
    """Returns a generator, which nobody runs."""

    retries = 0

    def call(self) -> object:
        return (Note.objects.create(text=text) for text in "abc")


class Again(Mandate):
    """Asks to be run again as often as it is told, inside a transaction that its asking rolls back."""

    max_requeues = 3
    times: int = 1
    pause: object = 30

    def call(self) -> str:
        if self.job.progress.requeues < self.times:
            with transaction.atomic():
                Note.objects.create(text="rolled back")
                try:
                    self.requeue_job(self.pause)
                except Exception:
                    return "swallowed"
        return "through"


class TroubleAfterAStep(Mandate):
    """Is dead after its step, unless that was done twice."""

    retries = 0

    def call(self) -> None:
        self.step(self.note)
        if Note.objects.count() < 2:
            raise HopelessError("the step was done once")

    def note(self) -> None:
        Note.objects.create(text="a step")
