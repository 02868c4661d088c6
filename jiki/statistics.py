"""How learners get on with the exercises: counted in one query, kept in one statement."""

from django.db.models import Count, Q
from django.utils import timezone

from jiki.models import Exercise, ExerciseStatistics, Submission


def count() -> list[ExerciseStatistics]:
    """What is to be said of each exercise now; not saved. A learner counts once, however often she tries."""
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
    """Save them all, in place of what was there."""
    ExerciseStatistics.objects.bulk_create(
        counted,
        update_conflicts=True,
        unique_fields=["exercise"],
        update_fields=["learners", "passed", "submissions", "refreshed_at"],
    )
