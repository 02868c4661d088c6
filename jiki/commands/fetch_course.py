"""Fetch a course from the content service."""

from jiki import content
from jiki.courses import Course
from jobs import Mandate, Rate, RetryOn


class FetchCourse(Mandate):
    """Return the course as the service has it, as JSON."""

    timeout = 60
    limits = [Rate(20, per=1, group="content")]  # what the service bears
    limit_on = {content.BusyError: lambda error: error.seconds}
    retry_on = [RetryOn(content.RefusedError, attempts=1), RetryOn(content.NoSuchExerciseError, attempts=1)]

    course: Course

    def call(self) -> str:
        return content.fetch_course(self.course.slug)
