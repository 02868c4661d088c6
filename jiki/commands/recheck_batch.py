"""Check all submissions of an exercise again, in one job."""

from datetime import timedelta

from django.db import transaction

from jiki import sandbox
from jiki.models import Batch, Submission
from jobs import Mandate, RetryOn


class RecheckBatch(Mandate):
    """Check what a batch has not reached yet. It goes on after a deployment: docs/howto/check-submissions.md."""

    queue = "background"
    timeout = 600  # seconds from one submission to the next
    unique_for = timedelta(days=1)
    retry_on = [RetryOn(sandbox.BrokenChecksError, attempts=1)]
    discard_on = [Batch.DoesNotExist]

    batch_id: int

    def call(self) -> None:
        batch = Batch.objects.select_related("exercise").get(pk=self.batch_id)
        for submission in self.each(batch.after(batch.reached), name="checked", total=batch.total):
            self.check(batch, submission)
        with transaction.atomic():
            Batch.objects.select_for_update().get(pk=self.batch_id).advance([], is_last=True)

    def check(self, batch: Batch, submission: Submission) -> None:
        """Check one, which may take seconds, and then store the result, unless another job has overtaken this one."""
        report = sandbox.check(submission.sources(), batch.exercise.checks)
        with transaction.atomic():
            batch = Batch.objects.select_for_update().get(pk=self.batch_id)
            if batch.reached < submission.pk:
                batch.advance([(submission, report)], is_last=False)

    def on_dead(self, error: BaseException) -> None:
        Batch.objects.filter(pk=self.batch_id).exclude(state=Batch.State.FINISHED).update(state=Batch.State.STOPPED)
