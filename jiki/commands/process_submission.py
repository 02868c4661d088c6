"""Check a submission."""

from jiki import sandbox
from jiki.commands.send_passed_email import SendPassedEmail
from jiki.models import Submission
from jobs import Mandate, RetryOn


class ProcessSubmission(Mandate):
    """
    Run the exercise's checks against the code, and store their results. If it passed, defer the mail about it.

    Whatever the code does is a result, not a failure of the job. A second run stores the results again.
    """

    queue = "critical"
    timeout = 60
    retries = 2
    # Broken checks stay broken until a person mends them: the learner sees it now, and the job is kept for that person.
    retry_on = [RetryOn(sandbox.BrokenChecksError, attempts=1)]
    discard_on = [Submission.DoesNotExist]

    submission_id: int

    @staticmethod
    def share(submission_id: int) -> int | None:
        """Learners take turns: one who submits a hundred times keeps nobody else waiting."""
        return Submission.objects.filter(pk=submission_id).values_list("user_id", flat=True).first()

    def call(self) -> None:
        submission = Submission.objects.select_related("exercise", "user").get(pk=self.submission_id)
        Submission.objects.filter(pk=submission.pk).update(state=Submission.State.CHECKING)
        report = sandbox.check(submission.sources(), submission.exercise.checks)
        submission.settle(report)
        if report.passed:
            SendPassedEmail.defer(submission.user, submission.pk)

    def on_dead(self, error: BaseException) -> None:
        Submission(pk=self.submission_id).give_up()
