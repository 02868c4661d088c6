"""Tell everybody who worked last week how it went."""

from datetime import timedelta

from django.utils import timezone

from jiki.commands.send_progress_email import SendProgressEmail, days_of
from jobs import Mandate
from users.models import User

SPREAD = timedelta(hours=2)  # over which the mails leave, so that no mail server sees them all at once


class SendProgressEmails(Mandate):
    """
    Defer one mail for each learner who has submitted something last week. Returns how many.

    A second run defers them again, and no mail leaves twice.
    """

    queue = "background"

    def call(self) -> int:
        today = timezone.localdate()
        week = today - timedelta(days=today.weekday() + 7)
        learners = User.objects.filter(is_active=True, submissions__created_at__range=days_of(week)).distinct()
        return len(SendProgressEmail.defer_many([(each, week) for each in learners.only("pk")], spread=SPREAD))
