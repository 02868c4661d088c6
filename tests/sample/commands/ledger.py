"""The load of the chaos suite: commands that enter each of their runs in the books."""

import asyncio
import os
import subprocess
import time
from collections.abc import Callable

from django.db import transaction

from jobs import Concurrency, Mandate
from tests.sample.models import Note, Run

FORGED = "\n2026-01-01 00:00:00 ERROR \x1b[31mlies\ud800 \u2028"  # lines, control characters, and what is no text


class Record(Mandate):
    retries = 0
    result_ttl = 24 * 3_600  # the books are read at the end
    number: int
    seconds: float = 0.0
    fails: bool = False
    size: int = 0  # of its result, or of its error's text

    def call(self) -> str | None:
        run = Run.objects.create(number=self.number)
        time.sleep(self.seconds)
        Run.objects.filter(pk=run.pk).update(ended=True)
        if self.fails:
            raise RuntimeError("as planned" + FORGED * (self.size // len(FORGED)))
        return "x" * self.size if self.size else None


class RecordAsync(Record):
    """The same, on an event loop where the worker has one."""

    async def call(self) -> str | None:
        run = await Run.objects.acreate(number=self.number)
        await asyncio.sleep(self.seconds)
        await Run.objects.filter(pk=run.pk).aupdate(ended=True)
        if self.fails:
            raise RuntimeError("as planned" + FORGED * (self.size // len(FORGED)))
        return "x" * self.size if self.size else None


class RecordLimited(Record):
    """The same, two at once of each of LINES lines, with a note when a body enters and when it leaves."""

    LINES = 5
    AT_ONCE = 2

    @staticmethod
    def line(number: int, **fields: object) -> int:
        return number % RecordLimited.LINES

    limits = [Concurrency(AT_ONCE, key=line)]

    def call(self) -> str | None:
        Note.objects.create(text=f"limited {self.number} enters")
        try:
            return super().call()
        finally:
            Note.objects.create(text=f"limited {self.number} leaves")


class CallBack(Mandate):
    """The callback of a batch: enters the event."""

    result_ttl = 24 * 3_600
    event: str

    def call(self) -> None:
        assert self.batch is not None
        Note.objects.create(text=f"callback {self.event} {self.batch.id}")


class Rude(Mandate):
    """Does what harms the process that it runs in, or may harm its neighbours. Only `exit` changes its ways."""

    retries = 0
    timeout = 1
    result_ttl = 24 * 3_600
    number: int
    how: str

    def call(self) -> None:
        RUDE[self.how](self)

    def exit(self) -> None:
        """Ends the process, the first time."""
        _, is_first = Note.objects.get_or_create(text=f"exit {self.number}")
        if is_first:
            os._exit(0)

    def fork(self) -> None:
        """The copy goes on into the worker's code; it must not take itself for the worker."""
        if pid := os.fork():
            os.waitpid(pid, 0)

    def overrun(self) -> None:
        """Is out of time within a transaction."""
        while True:
            with transaction.atomic():
                Note.objects.create(text=f"overrun {self.number}")
                with transaction.atomic():
                    Note.objects.filter(text=f"overrun {self.number}").delete()

    def wait(self) -> None:
        """Waits for a program that does not end."""
        subprocess.run(["/bin/sleep", "600"], check=False)

    def sleep(self) -> None:
        """Sits in C code, where no interrupt comes, for longer than it has to come back."""
        time.sleep(50)


RUDE: dict[str, Callable[[Rude], None]] = {
    each.__name__: each for each in (Rude.exit, Rude.fork, Rude.overrun, Rude.wait, Rude.sleep)
}
