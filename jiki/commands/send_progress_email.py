"""Mail a learner her progress of a week."""

from datetime import date

from django.db.models import Q

from jiki.links import progress_url
from jiki.models import Exercise, ProgressOptOut, Submission
from jiki.weeks import days_of
from mailers import progress
from mailers.command import MailCommand
from users.links import absolute_url
from users.models import User


class SendProgressEmail(MailCommand):
    """Send the mail about the week that began on `week`, once, unless she has ended these mails."""

    user: User
    week: date

    def call(self) -> None:
        if ProgressOptOut.objects.filter(user=self.user).exists():
            return
        passed = Q(submissions__user=self.user, submissions__state=Submission.State.PASSED)
        last_week = Q(submissions__user=self.user, submissions__created_at__range=days_of(self.week))
        exercises = Exercise.objects.order_by("position", "title")
        progress.send(
            self.user,
            self.week,
            tried=exercises.filter(last_week).distinct().count(),
            passed=[each.title for each in exercises.filter(passed & last_week).distinct()],
            passed_ever=exercises.filter(passed).distinct().count(),
            home_url=absolute_url("exercises"),
            stop_url=progress_url(self.user),
        )
