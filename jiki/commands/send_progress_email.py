"""Tell a learner what she has done in a week."""

from datetime import date, datetime, time, timedelta

from django.db.models import Q
from django.utils import timezone

from jiki.models import Exercise, Submission
from mailers import progress
from mailers.command import MailCommand
from users.links import absolute_url
from users.models import User


class SendProgressEmail(MailCommand):
    """Send the mail about the week that began on that day, once, however often the job runs."""

    user: User
    week: date

    def call(self) -> None:
        passed = Q(submissions__user=self.user, submissions__state=Submission.State.PASSED)
        last_week = Q(submissions__user=self.user, submissions__created_at__range=days_of(self.week))
        exercises = Exercise.objects.order_by("position", "title")
        progress.send(
            self.user,
            self.week,
            tried=exercises.filter(last_week).distinct().count(),
            passed=[each.title for each in exercises.filter(passed & last_week).distinct()],
            passed_ever=exercises.filter(passed).distinct().count(),
            home_url=absolute_url("home"),
        )


def days_of(week: date) -> tuple[datetime, datetime]:
    """When the week began that began on that day, and when it ended, where the project is."""
    begin, end = (timezone.make_aware(datetime.combine(day, time.min)) for day in (week, week + timedelta(days=7)))
    return begin, end - timedelta(microseconds=1)
