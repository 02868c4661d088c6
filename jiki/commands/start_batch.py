"""Begin to check all submissions of an exercise anew."""

from django.db import transaction
from django.db.models import Count, Max

from jiki.commands.process_batch import ProcessBatch
from jiki.models import Batch, Exercise
from jobs import Mandate
from users.models import User


class StartBatch(Mandate):
    """Note which submissions there are, and defer the first slice; returns the batch. Later ones are not in it."""

    exercise: Exercise
    user: User

    @transaction.atomic
    def call(self) -> Batch:
        there = self.exercise.submissions.aggregate(total=Count("pk"), last=Max("pk"))
        batch = Batch.objects.create(
            exercise=self.exercise, started_by=self.user, total=there["total"], last=there["last"] or 0
        )
        batch.goes_on(ProcessBatch.defer(batch.pk).id)
        return batch
