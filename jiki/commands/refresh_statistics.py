"""Count how learners get on with each exercise."""

from datetime import timedelta

from django.db import transaction
from django.db.models import Count, Q
from django.utils import timezone

from jiki.models import Exercise, ExerciseStatistics, Submission
from jiki.tasks import warm_catalogue
from jobs import Mandate


class RefreshStatistics(Mandate):
    """Count learners, submissions and passes of every exercise anew. Returns of how many exercises."""

    queue = "background"
    retries = 3  # the next run counts everything anyway, and exports wait for this one
    unique_for = timedelta(minutes=30)

    def call(self) -> int:
        passed = Q(submissions__state=Submission.State.PASSED)
        counted = Exercise.objects.annotate(
            by=Count("submissions__user", distinct=True),
            passed=Count("submissions__user", distinct=True, filter=passed),
            of=Count("submissions"),
        )
        now = timezone.now()
        rows = [
            ExerciseStatistics(
                exercise=each, learners=each.by, passed=each.passed, submissions=each.of, refreshed_at=now
            )
            for each in counted
        ]
        fields = ["learners", "passed", "submissions", "refreshed_at"]
        with transaction.atomic():
            ExerciseStatistics.objects.bulk_create(
                rows, update_conflicts=True, unique_fields=["exercise"], update_fields=fields
            )
            warm_catalogue.enqueue()
        return len(rows)
