"""Mail the learners who worked last week."""

from datetime import timedelta

from jiki.commands.send_progress_email import SendProgressEmail
from jiki.weeks import days_of, last_week
from jobs import Mandate
from users.models import User

SPREAD = timedelta(hours=2)  # over which the mails are spread, so that no mail server gets them all at once


class SendProgressEmails(Mandate):
    """
    Defer one mail for each learner with a submission last week who has not ended these mails. Returns their number.

    A second run defers them again, but no mail is sent twice.
    """

    queue = "background"

    def call(self) -> int:
        week = last_week()
        recipients = User.objects.filter(is_active=True, progress_opt_out=None)
        learners = recipients.filter(submissions__created_at__range=days_of(week)).distinct().only("pk")
        return len(SendProgressEmail.defer_many([(each, week) for each in learners], spread=SPREAD))
