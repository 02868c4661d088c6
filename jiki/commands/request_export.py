"""Take a learner's request for a copy of her data."""

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
    Note the request and defer its work: the statistics first, then the export. Once an hour; None before that is over.

    Raises RedisUnavailableError; then the request is not kept either, so she can ask again at once.
    """

    user: User

    def call(self) -> DataExport | None:
        export = None
        try:
            with transaction.atomic():
                User.objects.select_for_update().get(pk=self.user.pk)  # of two requests at once the second waits here
                recent = timezone.now() - DataExport.AGAIN_AFTER
                if not self.user.exports.filter(asked_at__gt=recent).exists():
                    export = DataExport.objects.create(user=self.user)
                    # Old statistics are better than no export: however they end, it goes on.
                    PrepareExport.defer(export, prereq_jobs=[RefreshStatistics.defer()], prereq_failure="run")
        except RedisUnavailableError:
            if export:
                export.delete()
            raise
        return export
