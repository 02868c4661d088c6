"""Fetch the text of a lesson from the content service."""

from jiki import content
from jiki.courses import Lesson
from jobs import Mandate, Rate, RetryOn


class ImportLesson(Mandate):
    """Take the title and the text that the service has."""

    timeout = 60
    limits = [Rate(20, per=1, group="content")]
    limit_on = {content.BusyError: lambda error: error.seconds}
    retry_on = [RetryOn(content.RefusedError, attempts=1), RetryOn(content.NoSuchExerciseError, attempts=1)]
    discard_on = [Lesson.DoesNotExist]  # deleted since

    lesson_id: int

    def call(self) -> None:
        lesson = Lesson.objects.select_related("course").get(pk=self.lesson_id)
        texts = content.fetch_lesson(lesson.course.slug, lesson.slug)
        Lesson.objects.filter(pk=self.lesson_id).update(title=texts["title"][:200], text=texts["text"])
