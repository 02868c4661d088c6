"""Commands that look at their own job, or go on to others."""

from datetime import timedelta

from django.db import DatabaseError, connection
from django.utils import timezone

from jobs import Mandate, MandateJob, RetryOn, control
from tests.sample.models import Folder, Note


class Descend(Mandate):
    """Defers itself anew, so many times."""

    depth: int

    def call(self) -> str | None:
        Note.objects.create(text=f"depth {self.depth}")
        return Descend.defer(self.depth - 1).id if self.depth else None


class DeferAgain(Mandate):
    """Defers itself to an hour from now, by the machine's clock."""

    def call(self) -> None:
        DeferAgain.using(wait_until=timezone.now() + timedelta(hours=1)).defer()


class TellState(Mandate):
    def call(self) -> str:
        assert self.job is not None
        return str(self.job.state)


class CancelItself(Mandate):
    def call(self) -> str:
        assert self.job is not None
        self.job.cancel()
        return "too late"


class EndOther(Mandate):
    other: str
    by: str = "cancel"

    def call(self) -> None:
        assert self.job is not None
        getattr(control, self.by)(MandateJob.fetch(self.other, connection=self.job.connection))


class Forever(Mandate):
    """Never comes to its end."""

    def call(self) -> None:
        self.requeue_job(0)


class MakeFolder(Mandate):
    """Leaves a note, then fails in the database if there is such a folder already; or with SQL that is none."""

    discard_on = [DatabaseError]
    path: str
    sql: str = ""

    def call(self) -> None:
        Note.objects.create(text=self.path)
        if self.sql:
            connection.cursor().execute(self.sql)
        Folder.objects.create(path=self.path)


class Hooked(Mandate):
    """Fails until it is dead, or is dropped. Its hooks leave notes."""

    retry_on = [RetryOn(ConnectionError, wait=10, attempts=2, jitter=0)]
    discard_on = [ValueError]
    error: str

    def call(self) -> None:
        raise {"ConnectionError": ConnectionError, "ValueError": ValueError}[self.error]("as planned")

    def on_retry(self, error: BaseException, attempt: int, delay: float) -> None:
        Note.objects.create(text=f"retry after attempt {attempt} in {delay:g} s: {error}")

    def on_dead(self, error: BaseException) -> None:
        Note.objects.create(text=f"dead: {error}")

    def on_discard(self, reason: str) -> None:
        Note.objects.create(text=f"discarded: {reason}")
