"""Tell the author how the import of a course has ended."""

from jiki.courses import Course
from mailers import course_imported
from mailers.command import MailCommand
from users.links import absolute_url
from users.models import User


class SendCourseEmail(MailCommand):
    """A callback of the flow: for its success, or for its first dead job."""

    course: Course
    user: User

    def call(self) -> None:
        flow = self.batch
        course_imported.send(
            self.user,
            self.course.slug,
            str(self.course),
            flow_id=flow.id if flow else "",
            has_succeeded=flow is None or flow.has_succeeded,
            course_url=absolute_url("course", slug=self.course.slug),
            admin_url=absolute_url("admin:jiki_course_change", object_id=str(self.course.pk)),
        )
