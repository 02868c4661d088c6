"""Start a new check of all submissions of an exercise."""

from django.db.models import Count, Max

from jiki.commands.recheck_batch import RecheckBatch
from jiki.models import Batch, Exercise
from jobs import Mandate
from users.models import User


class StartBatch(Mandate):
    """Create the batch of the current submissions, and defer the job that checks them. Returns the batch."""

    atomic = True

    exercise: Exercise
    user: User

    def call(self) -> Batch:
        submissions = self.exercise.submissions.aggregate(total=Count("pk"), last=Max("pk"))
        batch = Batch.objects.create(
            exercise=self.exercise, started_by=self.user, total=submissions["total"], last=submissions["last"] or 0
        )
        batch.goes_on(RecheckBatch.defer(batch.pk).id)
        return batch
