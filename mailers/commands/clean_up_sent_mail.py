"""Delete old records of sent mails."""

from datetime import timedelta

from django.utils import timezone

from jobs import Mandate
from mailers.models import SentMail

KEPT = timedelta(days=400)  # a job can be retried for 20 days, and by a person for 180 more


class CleanUpSentMail(Mandate):
    """Delete the records of mails that no job can send again. Returns their number."""

    queue = "low"

    def call(self) -> int:
        deleted, _ = SentMail.objects.filter(sent_at__lt=timezone.now() - KEPT).delete()
        return deleted
