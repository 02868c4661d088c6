"""Statistics of the exercises: counted in one query, saved in one statement."""

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
    ExerciseStatistics.objects.bulk_create(
        counted,
        update_conflicts=True,
        unique_fields=["exercise"],
        update_fields=["learners", "passed", "submissions", "refreshed_at"],
    )
