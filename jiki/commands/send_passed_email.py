"""Mail a learner which exercises she has just passed."""

from datetime import timedelta

from jiki.links import progress_url
from jiki.models import Exercise, ProgressOptOut, Submission
from jobs import Collapse
from mailers import passed
from mailers.command import MailCommand
from users.links import absolute_url
from users.models import User


class SendPassedEmail(MailCommand):
    """
    Send one mail about what she has passed since the submission with the key `first`, unless she has ended these mails.

    It comes ten minutes after the last exercise that she passes, an hour after the first one at the latest.
    """

    collapse = Collapse(wait=timedelta(minutes=10), key="user", keep="first", at_most=timedelta(hours=1))

    user: User
    first: int

    def call(self) -> None:
        if ProgressOptOut.objects.filter(user=self.user).exists():
            return
        submissions = Submission.objects.filter(user=self.user, state=Submission.State.PASSED, pk__gte=self.first)
        exercises = Exercise.objects.filter(submissions__in=submissions).distinct().order_by("position", "title")
        if titles := [each.title for each in exercises]:
            passed.send(self.user, self.first, titles, absolute_url("exercises"), progress_url(self.user))
