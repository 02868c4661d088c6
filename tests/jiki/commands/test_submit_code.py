import pytest
from django.db import IntegrityError

from jiki.commands.process_submission import ProcessSubmission
from jiki.commands.submit_code import SubmitCode
from jiki.models import NOT_CHECKED, Submission, SubmissionFile
from jobs import queues
from jobs.errors import RedisUnavailableError


@pytest.mark.django_db
def test_the_code_is_stored_and_its_check_deferred(exercise, learner, jobs):
    submission = SubmitCode.run(learner, exercise, {"solution.py": "x = 1\n", "other.py": ""})

    job = jobs.assert_enqueued_with(ProcessSubmission, args=[submission.pk])
    submission.refresh_from_db()
    assert submission.sources() == {"solution.py": "x = 1\n", "other.py": ""}
    assert (submission.state, submission.user, submission.job_id) == ("queued", learner, job.id)


@pytest.mark.django_db
def test_what_cannot_be_stored_as_a_whole_is_not_stored_at_all(exercise, learner, jobs, monkeypatch):
    def fail(files):
        list(files)
        raise IntegrityError

    monkeypatch.setattr(SubmissionFile.objects, "bulk_create", fail)
    with pytest.raises(IntegrityError):
        SubmitCode.run(learner, exercise, {"solution.py": "x"})

    assert not Submission.objects.exists()
    jobs.assert_no_enqueued_jobs()


@pytest.mark.django_db(transaction=True)
def test_when_redis_is_away_the_learner_is_told_and_may_submit_again(exercise, learner, monkeypatch, caplog):
    def away(*args):
        raise RedisUnavailableError("No answer from Redis.")

    monkeypatch.setattr(queues, "write", away)

    submission = SubmitCode.run(learner, exercise, {"solution.py": "x"})

    submission.refresh_from_db()
    assert (submission.state, submission.message) == ("failed", NOT_CHECKED)
    assert f"ProcessSubmission.defer({submission.pk})" in caplog.text
