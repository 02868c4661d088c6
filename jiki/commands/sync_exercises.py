"""Fetch the texts of all exercises from the content service."""

from datetime import timedelta

from jiki.commands.sync_exercise import SyncExercise
from jiki.models import Exercise
from jobs import Mandate

A_MINUTE = 60  # requests to the service, at most


class SyncExercises(Mandate):
    """Defer one `SyncExercise` for each exercise, spread out. Returns their number."""

    def call(self) -> int:
        exercises = list(Exercise.objects.only("pk"))
        spread = timedelta(minutes=len(exercises) / A_MINUTE)
        return len(SyncExercise.defer_many([(each,) for each in exercises], spread=spread))
