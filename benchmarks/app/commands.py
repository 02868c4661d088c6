"""The jobs of `benchmarks.work` as commands, results not kept unless the name says so."""

import asyncio

from django.db import IntegrityError, transaction

from benchmarks import work
from benchmarks.app.models import Done
from jobs import Concurrency, Mandate, Rate


class Noop(Mandate):
    result_ttl = 0

    def call(self) -> None:
        work.noop()


class NoopKept(Mandate):
    def call(self) -> None:
        work.noop()


class NoopAtomic(Mandate):
    """Happens once in the database."""

    result_ttl = 0
    atomic = True

    def call(self) -> None:
        work.noop()


class NoopByHand(Mandate):
    """The same with a table, in the fewest statements: insert, and see whether that is refused."""

    result_ttl = 0

    def call(self) -> None:
        assert self.job is not None
        try:
            with transaction.atomic():
                Done.objects.create(job_id=self.job.id)
                work.noop()
        except IntegrityError:
            pass


class NoopGetOrCreate(Mandate):
    """The same as it is usually written."""

    result_ttl = 0

    def call(self) -> None:
        assert self.job is not None
        with transaction.atomic():
            _, is_new = Done.objects.get_or_create(job_id=self.job.id)
            if is_new:
                work.noop()


class Wait50ms(Mandate):
    result_ttl = 0

    def call(self) -> None:
        work.wait_50ms()


class Wait1ms(Mandate):
    result_ttl = 0

    def call(self) -> None:
        work.wait_1ms()


class ReadRow(Mandate):
    result_ttl = 0

    def call(self) -> None:
        work.read_row()


class Answer(Mandate):
    result_ttl = 0
    sent: float

    def call(self) -> None:
        work.answer(self.sent)


class Mixed(Mandate):
    result_ttl = 0
    milliseconds: int
    sent: float

    def call(self) -> None:
        work.mixed(self.milliseconds, self.sent)


class SendReport(Mandate):
    """With arguments, as lists and searches show them; nobody runs it."""

    queue = "mailers"
    reader: int
    subject: str

    def call(self) -> None:
        work.noop()


class ImportRow(Mandate):
    queue = "background"
    row: int
    values: dict[str, str]

    def call(self) -> None:
        work.noop()


class Await50ms(Mandate):
    """On an event loop: the ways of `benchmarks.loop`."""

    result_ttl = 0

    async def call(self) -> None:
        await asyncio.sleep(0.05)


class AwaitNothing(Mandate):
    result_ttl = 0

    async def call(self) -> None:
        """Only the engine's own cost."""


class AwaitLong(Mandate):
    timeout = 600
    result_ttl = 0

    async def call(self) -> None:
        await asyncio.sleep(60)


class NoopLimited(Mandate):
    """With one limit, which is never full."""

    limits = [Concurrency(1_000)]
    result_ttl = 0

    def call(self) -> None:
        work.noop()


class NoopOfKey(Mandate):
    """One at a time of each key."""

    limits = [Concurrency(1, key="key")]
    result_ttl = 0
    key: int

    def call(self) -> None:
        work.noop()


class NoopHeld(Mandate):
    """One at a time of all."""

    limits = [Concurrency(1, group="held")]
    result_ttl = 0

    def call(self) -> None:
        work.noop()


class Begin(Mandate):
    """A hundred starts a second."""

    limits = [Rate(100, per=1)]
    result_ttl = 0

    def call(self) -> None:
        work.begin()


class BeginEvenly(Begin):
    limits = [Rate(100, per=1, burst=1)]


class Occupy(Mandate):
    """One at a time of each key, by what the bodies say."""

    limits = [Concurrency(1, key="key")]
    result_ttl = 0
    key: int
    number: int

    def call(self) -> None:
        work.occupy(self.key, self.number)


class TakeTurns(Mandate):
    """Jobs of tenants; the number of a tenant is its weight."""

    @staticmethod
    def turn(tenant: int) -> tuple[int, int]:
        return tenant, tenant

    share = turn
    result_ttl = 0
    tenant: int

    def call(self) -> None:
        work.take_turn(self.tenant)
