import pytest

from jiki import sandbox
from jiki.commands.process_submission import ProcessSubmission
from jiki.models import NOT_CHECKED, Submission
from jobs.job import JobState
from tests.jiki.conftest import WRONG

pytestmark = pytest.mark.django_db


def test_it_stores_what_the_checks_say(submit):
    right, wrong = submit(), submit(WRONG)

    ProcessSubmission.run(right.pk)
    ProcessSubmission.run(wrong.pk)

    right.refresh_from_db()
    wrong.refresh_from_db()
    assert (right.state, right.results.filter(passed=True).count()) == ("passed", 2)
    assert (wrong.state, wrong.results.last().message) == ("failed", "add('a', 'b') returned 3; it should return 'ab'.")


def test_it_is_deferred_to_the_critical_queue_by_the_key_of_the_submission(submit, jobs):
    submission = submit()
    ProcessSubmission.defer(submission.id)

    jobs.assert_enqueued_with(ProcessSubmission, args=[submission.id], queue="critical")
    jobs.perform_enqueued_jobs()

    submission.refresh_from_db()
    assert submission.state == "passed"


def test_a_second_run_stores_the_same(submit, monkeypatch):
    submission = submit(WRONG)
    ProcessSubmission.run(submission.pk)
    first = list(submission.results.values("position", "name", "passed", "message"))

    ProcessSubmission.run(submission.pk)

    assert list(submission.results.values("position", "name", "passed", "message")) == first


def test_while_it_is_checked_it_says_so(submit, monkeypatch):
    submission, seen = submit(), []

    def check(files, checks):
        seen.append(Submission.objects.get().state)
        raise RuntimeError

    monkeypatch.setattr("jiki.sandbox.check", check)
    with pytest.raises(RuntimeError):
        ProcessSubmission.run(submission.pk)

    assert seen == ["checking"]


def test_broken_checks_end_at_once_for_the_learner_and_stay_for_a_person(submit, exercise, jobs):
    exercise.checks = "import no_such"
    exercise.save()
    submission = submit()
    job = ProcessSubmission.defer(submission.pk)
    jobs.perform_enqueued_jobs()

    submission.refresh_from_db()
    assert (submission.state, submission.message) == ("failed", NOT_CHECKED)
    assert job.state is JobState.DEAD
    assert "No module named 'no_such'" in job.reason


def test_what_could_not_be_checked_for_another_reason_is_tried_again(submit, jobs, monkeypatch):
    def fail(files, checks):
        raise sandbox.SandboxError("The checks did not start in time.")

    submission = submit()
    job = ProcessSubmission.defer(submission.pk)
    with monkeypatch.context() as patch:
        patch.setattr(sandbox, "check", fail)
        jobs.perform_enqueued_jobs()
    assert job.state is JobState.RETRYING
    assert Submission.objects.get().is_open

    jobs.travel(60)

    assert Submission.objects.get().state == "passed"


def test_one_that_is_gone_is_dropped(jobs):
    job = ProcessSubmission.defer(0)
    jobs.perform_enqueued_jobs()

    assert job.state is JobState.DISCARDED
