"""Store a learner's code, and defer its check."""

import logging

from django.db import transaction

from jiki.commands.process_submission import ProcessSubmission
from jiki.models import Exercise, Submission, SubmissionFile
from jobs import Mandate
from jobs.errors import RedisUnavailableError
from users.models import User

logger = logging.getLogger(__name__)


class SubmitCode(Mandate):
    """Store the files, all or none, and defer the check. Returns the submission."""

    log_arguments = False

    user: User
    exercise: Exercise
    sources: dict[str, str]

    def call(self) -> Submission:
        submission = Submission(user=self.user, exercise=self.exercise)
        try:
            with transaction.atomic():
                submission.save()
                SubmissionFile.objects.bulk_create(
                    SubmissionFile(submission=submission, path=path, content=content)
                    for path, content in self.sources.items()
                )
                submission.job_id = ProcessSubmission.defer(submission.pk).id
                submission.save(update_fields=["job_id"])
        except RedisUnavailableError:  # raised after the commit: the code is stored, and no job checks it
            logger.exception("A submission was not deferred. `ProcessSubmission.defer(%d)` checks it.", submission.pk)
            submission.give_up()
        return submission
