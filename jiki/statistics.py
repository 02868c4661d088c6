"""Statistics of the exercises: counted in one query, saved in one statement."""

from django.db import connection
from django.db.models import Count, Q
from django.utils import timezone

from jiki.models import Exercise, ExerciseStatistics, Submission


def count() -> list[ExerciseStatistics]:
    """Return the current statistics of each exercise, unsaved. A learner counts once, however often she submits."""
    passed = Q(submissions__state=Submission.State.PASSED)
    counted = Exercise.objects.annotate(
        by=Count("submissions__user", distinct=True),
        passed=Count("submissions__user", distinct=True, filter=passed),
        of=Count("submissions"),
    )
    now = timezone.now()
    return [
        ExerciseStatistics(exercise=each, learners=each.by, passed=each.passed, submissions=each.of, refreshed_at=now)
        for each in counted
    ]


def keep(counted: list[ExerciseStatistics]) -> None:
    """Save the statistics in place of the earlier ones."""
    names_its_target = connection.features.supports_update_conflicts_with_target  # not on MySQL and MariaDB
    ExerciseStatistics.objects.bulk_create(
        counted,
        update_conflicts=True,
        unique_fields=["exercise"] if names_its_target else None,
        update_fields=["learners", "passed", "submissions", "refreshed_at"],
    )
