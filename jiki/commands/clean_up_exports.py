"""Delete expired exports."""

from datetime import timedelta

from django.db.models import Q
from django.utils import timezone

from jiki.models import DataExport
from jobs import Mandate

GIVEN_UP_AFTER = timedelta(days=30)  # age at which an unfinished export is deleted; a job is retried for 20 days


class CleanUpExports(Mandate):
    """Delete expired exports with their files. Returns their number."""

    queue = "low"

    def call(self) -> int:
        now = timezone.now()
        is_over = Q(ready_at__lte=now - DataExport.KEPT) | Q(ready_at=None, asked_at__lte=now - GIVEN_UP_AFTER)
        _, deleted = DataExport.objects.filter(is_over).delete()
        return deleted.get(DataExport._meta.label, 0)
