"""Import the lessons of a course, each by a job of its own."""

from jiki.commands.import_lesson import ImportLesson
from jobs import Batch, Mandate


class ImportLessons(Mandate):
    """Open a batch of the lessons with these keys. The flow goes on when all of them have been imported."""

    lessons: list[int]

    def call(self) -> None:
        with Batch("lessons"):
            ImportLesson.defer_many([(pk,) for pk in self.lessons])
