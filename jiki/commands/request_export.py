"""Store a learner's request for a copy of her data."""

from django.db import transaction
from django.utils import timezone

from jiki.commands.prepare_export import PrepareExport
from jiki.commands.refresh_statistics import RefreshStatistics
from jiki.models import DataExport
from jobs import Mandate
from jobs.errors import RedisUnavailableError
from users.models import User


class RequestExport(Mandate):
    """
    Store the request and defer its jobs: the statistics first, then the export. At most once an hour; otherwise None.

    Raises RedisUnavailableError; then the request is not stored either, so she can ask again at once.
    """

    user: User

    def call(self) -> DataExport | None:
        export = None
        try:
            with transaction.atomic():
                User.objects.select_for_update().get(pk=self.user.pk)  # a second request at the same time waits here
                recent = timezone.now() - DataExport.AGAIN_AFTER
                if not self.user.exports.filter(asked_at__gt=recent).exists():
                    export = DataExport.objects.create(user=self.user)
                    # Old statistics are better than no export, so it runs however the refresh ends.
                    refresh = RefreshStatistics.defer()
                    export.job_id = PrepareExport.defer(export, prereq_jobs=[refresh], prereq_failure="run").id
                    export.save(update_fields=["job_id"])
        except RedisUnavailableError:
            if export:
                export.delete()
            raise
        return export
