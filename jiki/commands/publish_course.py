"""Show a course to learners."""

from django.utils import timezone

from jiki.courses import Course
from jobs import Mandate


class PublishCourse(Mandate):
    """The last step of an import: all lessons are there."""

    course: Course

    def call(self) -> None:
        Course.objects.filter(pk=self.course.pk).update(published_at=timezone.now())
