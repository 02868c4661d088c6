"""Long jobs: steps, loops, and the ways in which they may not come to their end."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, ClassVar

from django.db.models import F

from jobs import Mandate
from tests.sample.models import Run, Submission


class Plan(Mandate):
    """Does what a test has planned, and notes in `did` what it has done."""

    retries = 3
    result_ttl = 3_600
    plan: str

    plans: ClassVar[dict[str, Callable[["Plan"], Any]]] = {}
    did: ClassVar[list[Any]] = []

    def call(self) -> Any:
        return self.plans[self.plan](self)

    def one(self) -> str:
        self.did.append("one")
        return "first"

    def two(self) -> None:
        self.did.append("two")


class Grade(Mandate):
    """Grades each submission of a batch in transactions: a second time would be seen."""

    queue = "default"
    retries = 3
    result_ttl = 24 * 3_600
    batch_id: int
    chunk: int = 100
    pause: float = 0.0  # seconds, at each

    at: ClassVar[Callable[[Submission], None] | None] = None  # what a test does at each

    def call(self) -> None:
        self.each(Submission.objects.filter(batch_id=self.batch_id), self.grade, chunk=self.chunk)

    def grade(self, submission: Submission) -> None:
        Submission.objects.filter(pk=submission.pk).update(processed=F("processed") + 1)
        if self.at is not None:
            type(self).at(submission)  # type: ignore[misc]
        time.sleep(self.pause)


class Walk(Mandate):
    """The same without transactions: each visit is committed by itself. Its first step has an end that is seen."""

    result_ttl = 24 * 3_600
    timeout = 60
    batch_id: int
    pause: float = 0.0  # seconds, at each

    def call(self) -> None:
        self.step(self.begin)
        Run.objects.create(number=self.batch_id, ended=True)  # after the end of the step
        for submission in self.each(Submission.objects.filter(batch_id=self.batch_id)):
            Submission.objects.filter(pk=submission.pk).update(processed=F("processed") + 1)
            time.sleep(self.pause)

    def begin(self) -> None:
        Run.objects.create(number=self.batch_id)


class Stroll(Mandate):
    """A long job on an event loop."""

    result_ttl = 24 * 3_600
    number: int

    def begin(self) -> int:
        return self.number

    async def call(self) -> int:
        number = self.step(self.begin)
        for _ in self.each(range(number), total=number):
            await asyncio.sleep(0.02)
        return number
