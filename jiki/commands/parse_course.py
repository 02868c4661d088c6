"""Read which lessons a course has."""

from django.db import transaction

from jiki import content
from jiki.courses import Course, Lesson
from jobs import Mandate, RetryOn


class ParseCourse(Mandate):
    """Store the title of a course and the places of its lessons. Returns the lessons' keys."""

    retry_on = [RetryOn(content.UnusableAnswerError, attempts=1)]

    course: Course
    text: str

    def call(self) -> list[int]:
        title, slugs = content.parse_course(self.text)
        with transaction.atomic():
            Course.objects.filter(pk=self.course.pk).update(title=title[:200])
            self.course.lessons.exclude(slug__in=slugs).delete()
            for position, slug in enumerate(slugs):
                Lesson.objects.update_or_create(course=self.course, slug=slug, defaults={"position": position})
        return list(self.course.lessons.values_list("pk", flat=True))
