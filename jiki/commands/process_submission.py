"""Check what a learner has submitted."""

from jiki import sandbox
from jiki.models import Submission
from jobs import Mandate, RetryOn


class ProcessSubmission(Mandate):
    """
    Run the exercise's checks against the code, and store what they say.

    Whatever the code does is a result, and no failure of the job. A second run stores the same once more.
    """

    queue = "critical"
    timeout = 60
    retries = 2
    # A broken exercise stays so until somebody mends it: the learner is told now, and the job kept for that somebody.
    retry_on = [RetryOn(sandbox.BrokenChecksError, attempts=1)]
    discard_on = [Submission.DoesNotExist]

    submission_id: int

    def call(self) -> None:
        submission = Submission.objects.select_related("exercise").get(pk=self.submission_id)
        Submission.objects.filter(pk=submission.pk).update(state=Submission.State.CHECKING)
        submission.settle(sandbox.check(submission.sources(), submission.exercise.checks))

    def on_dead(self, error: BaseException) -> None:
        Submission(pk=self.submission_id).give_up()
