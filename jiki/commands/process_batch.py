"""Check all submissions of an exercise again, slice by slice."""

from django.db import transaction

from jiki import sandbox
from jiki.models import Batch
from jobs import Mandate, RetryOn


class ProcessBatch(Mandate):
    """Check the slice after the key `after`, then defer the next one. How: docs/howto/check-submissions.md."""

    queue = "background"
    unique_for = 3_600
    retry_on = [RetryOn(sandbox.BrokenChecksError, attempts=1)]
    discard_on = [Batch.DoesNotExist]

    batch_id: int
    after: int = 0
    limit: int = 10

    def call(self) -> None:
        batch = Batch.objects.select_related("exercise").get(pk=self.batch_id)
        self.report(batch.done, batch.total, "checked")
        reports = None
        if batch.is_at(self.after):  # otherwise an earlier attempt has checked this slice, and died afterwards
            slice = batch.after(self.after).order_by("pk")[: self.limit]
            reports = [(each, sandbox.check(each.sources(), batch.exercise.checks)) for each in slice]
        with transaction.atomic():
            batch = Batch.objects.select_for_update().get(pk=self.batch_id)
            if reports is not None and batch.is_at(self.after):
                batch.advance(reports, is_last=len(reports) < self.limit)
            if batch.state == Batch.State.FINISHED:
                return
            job = ProcessBatch.defer(self.batch_id, batch.reached, self.limit)
        batch.goes_on(job.id)  # after the commit, which decides whether it is a job that an earlier attempt deferred

    def on_dead(self, error: BaseException) -> None:
        Batch.objects.filter(pk=self.batch_id).exclude(state=Batch.State.FINISHED).update(state=Batch.State.STOPPED)
