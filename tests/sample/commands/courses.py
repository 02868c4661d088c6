"""The long job of docs/howto/long-jobs.md."""

from typing import ClassVar

from django.db.models import F

from jobs import Mandate
from tests.sample.models import Batch, Submission


class CloseCourse(Mandate):
    timeout = 600  # seconds from one checkpoint to the next
    course: Batch

    def call(self) -> None:
        graded = self.step(self.freeze)
        submissions = Submission.objects.filter(batch=self.course)
        self.each(submissions, self.grade, chunk=100, total=graded)
        for submission in self.each(submissions, name="mail"):
            self.tell(submission)
        self.step(self.publish)

    told: ClassVar[list[int]] = []  # what a test looks at

    def freeze(self) -> int:
        return Submission.objects.filter(batch=self.course).count()

    def grade(self, submission: Submission) -> None:
        Submission.objects.filter(pk=submission.pk).update(processed=F("processed") + 1)

    def tell(self, submission: Submission) -> None:
        self.told.append(submission.pk)

    def publish(self) -> None:
        self.course.done = Submission.objects.filter(batch=self.course, processed=1).count()
        self.course.save()
