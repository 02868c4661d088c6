"""Import a course from the content service."""

from jiki.commands.fetch_course import FetchCourse
from jiki.commands.import_lessons import ImportLessons
from jiki.commands.parse_course import ParseCourse
from jiki.commands.publish_course import PublishCourse
from jiki.commands.send_course_email import SendCourseEmail
from jiki.courses import Course
from jobs import Mandate, Workflow
from users.models import User


class ImportCourse(Mandate):
    """Open the flow that imports it, one at a time, and that tells the author how it has ended. Returns the flow."""

    course: Course
    user: User

    def call(self) -> Workflow:
        tell = SendCourseEmail.prepare(self.course, self.user)
        name = f"import course {self.course.slug}"
        with Workflow(name, unique=f"course:{self.course.pk}", on_success=tell, on_dead=tell) as flow:
            fetched = flow.add(FetchCourse, self.course)
            parsed = flow.add(ParseCourse, self.course, fetched.result)
            imported = flow.add(ImportLessons, parsed.result)
            published = flow.add(PublishCourse, self.course, after=[imported])
        if not flow.duplicate:
            Course.objects.filter(pk=self.course.pk).update(flow_id=flow.id, job_id=published.id)
        return flow
