"""Long jobs: steps, loops, and the ways in which they may not come to their end."""

from collections.abc import Callable
from typing import Any, ClassVar

from django.db.models import F

from jobs import Mandate
from tests.sample.models import Submission


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

    at: ClassVar[Callable[[Submission], None] | None] = None  # what a test does at each

    def call(self) -> None:
        self.each(Submission.objects.filter(batch_id=self.batch_id), self.grade, chunk=self.chunk)

    def grade(self, submission: Submission) -> None:
        Submission.objects.filter(pk=submission.pk).update(processed=F("processed") + 1)
        if self.at is not None:
            type(self).at(submission)  # type: ignore[misc]


class Walk(Mandate):
    """The same without transactions; each visit is committed by itself."""

    result_ttl = 24 * 3_600
    batch_id: int

    def call(self) -> None:
        for submission in self.each(Submission.objects.filter(batch_id=self.batch_id)):
            Submission.objects.filter(pk=submission.pk).update(processed=F("processed") + 1)
