"""Commands whose effects happen once, and the ways in which they may not come to their end."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

from django.db import IntegrityError, connections, transaction
from django.db.models import F

from jobs import Mandate
from tests.sample.commands.notes import WriteNote
from tests.sample.models import Folder, Note, Submission


class Planned(Exception):
    """As planned."""


class WriteOnce(Mandate):
    """Writes a note, and then does what a test has planned."""

    atomic = True
    retries = 1
    discard_on = [ZeroDivisionError]
    text: str
    plan: str = ""

    plans: ClassVar[dict[str, Callable[["WriteOnce"], Any]]] = {}
    calls: ClassVar[list[str]] = []

    def call(self) -> Any:
        note = Note.objects.create(text=self.text)
        result = self.plans[self.plan](self) if self.plan else None
        return {"note": note.pk} if result is None else result

    def on_retry(self, error: BaseException, attempt: int, delay: float) -> None:
        self._note("on_retry")

    def on_dead(self, error: BaseException) -> None:
        self._note("on_dead")

    def on_discard(self, reason: str) -> None:
        self._note("on_discard")

    def _note(self, hook: str) -> None:
        self.calls.append(f"{hook}, {'inside' if connections['default'].in_atomic_block else 'outside'}")


def plan(function: Callable[[WriteOnce], Any]) -> Callable[[WriteOnce], Any]:
    WriteOnce.plans[function.__name__] = function
    return function


@plan
def fail(command: WriteOnce) -> None:
    raise Planned("as planned")


@plan
def fail_once(command: WriteOnce) -> None:
    if command.job is not None and not command.job.progress.attempts:
        raise Planned("as planned")


@plan
def requeue(command: WriteOnce) -> None:
    if command.job is not None and not command.job.progress.requeues:
        command.requeue_job(0)


@plan
def discard(command: WriteOnce) -> None:
    raise ZeroDivisionError


@plan
def generate(command: WriteOnce) -> Any:
    return (number for number in range(3))


@plan
def fail_in_a_savepoint(command: WriteOnce) -> None:
    Folder.objects.create(path="a")
    try:
        with transaction.atomic():
            Note.objects.create(text="within")
            Folder.objects.create(path="a")
    except IntegrityError:
        Note.objects.create(text="after it")


@plan
def swallow_a_broken_transaction(command: WriteOnce) -> None:
    Folder.objects.create(path="a")
    with suppress(IntegrityError):
        Folder.objects.create(path="a")


@plan
def roll_back_and_swallow(command: WriteOnce) -> None:
    """As InnoDB does to the victim of a deadlock: the transaction is gone, the next statement begins another."""
    connections["default"].connection.rollback()
    if connections["default"].vendor == "sqlite":
        connections["default"].connection.execute("BEGIN")


@plan
def mark_for_rollback(command: WriteOnce) -> None:
    transaction.set_rollback(True)


@plan
def fail_after_the_commit(command: WriteOnce) -> None:
    def callback() -> None:
        raise Planned("after the commit")

    transaction.on_commit(callback)
    transaction.on_commit(lambda: command.calls.append("a later callback"))


@plan
def tell_after_the_commit(command: WriteOnce) -> None:
    transaction.on_commit(lambda: command.calls.append("committed"))


@plan
def defer_another(command: WriteOnce) -> None:
    WriteNote.defer(f"follows {command.text}")
    command.calls.append(f"{WriteNote.defer('another').state}")


@plan
def defer_another_and_fail(command: WriteOnce) -> None:
    WriteNote.defer(f"follows {command.text}")
    raise Planned("as planned")


@plan
def fork(command: WriteOnce) -> None:
    if pid := os.fork():
        os.waitpid(pid, 0)


@plan
def spin(command: WriteOnce) -> None:
    while True:
        time.sleep(0.001)


@plan
def cancel(command: WriteOnce) -> None:
    assert command.job is not None
    command.job.cancel()


@plan
def write_elsewhere(command: WriteOnce) -> None:
    Note.objects.using("other").create(text=command.text)
    raise Planned("as planned")


class WriteOnceElsewhere(Mandate):
    """Its transaction is on the other database."""

    atomic = "other"
    retries = 1
    text: str
    fails: bool = False

    def call(self) -> None:
        Note.objects.using("other").create(text=self.text)
        Note.objects.create(text=self.text)
        if self.fails:
            raise Planned("as planned")


class Remove(Mandate):
    """Deletes its own argument, so that a second attempt could not be built."""

    atomic = True
    note: Note

    def call(self) -> str:
        self.note.delete()
        return "removed"


class Count(Mandate):
    """Counts up a submission: a second time would be seen."""

    atomic = True
    result_ttl = 24 * 3_600
    submission_id: int

    def call(self) -> int:
        Submission.objects.filter(pk=self.submission_id).update(processed=F("processed") + 1)
        return self.submission_id
