"""Refresh the statistics of the exercises."""

from datetime import timedelta

from django.db import transaction

from jiki import statistics
from jiki.tasks import warm_listing
from jobs import Mandate


class RefreshStatistics(Mandate):
    """Count learners, submissions and passes of every exercise. Returns the number of exercises."""

    queue = "background"
    retries = 3  # the next run counts everything anyway, and exports wait for this one
    unique_for = timedelta(minutes=30)

    def call(self) -> int:
        counted = statistics.count()
        with transaction.atomic():
            statistics.keep(counted)
            warm_listing.enqueue()
        return len(counted)
