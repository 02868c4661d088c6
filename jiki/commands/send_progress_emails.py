"""Tell everybody who worked last week how it went."""

from datetime import timedelta

from jiki.commands.send_progress_email import SendProgressEmail
from jiki.weeks import days_of, last_week
from jobs import Mandate
from users.models import User

SPREAD = timedelta(hours=2)  # over which the mails leave, so that no mail server sees them all at once


class SendProgressEmails(Mandate):
    """
    Defer one mail for each learner who has submitted something last week and wants to hear of it. Returns how many.

    A second run defers them again, and no mail leaves twice.
    """

    queue = "background"

    def call(self) -> int:
        week = last_week()
        who_want_it = User.objects.filter(is_active=True, progress_opt_out=None)
        learners = who_want_it.filter(submissions__created_at__range=days_of(week)).distinct().only("pk")
        return len(SendProgressEmail.defer_many([(each, week) for each in learners], spread=SPREAD))
