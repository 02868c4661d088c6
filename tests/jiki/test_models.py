import pytest
from django.core.exceptions import ValidationError

from jiki.models import CHECKS_LENGTH, Batch, Submission
from jiki.sandbox import Report, Result

pytestmark = pytest.mark.django_db

REPORT = Report([Result("one", True), Result("two", False, "It is 3.")])


def results(submission):
    return list(submission.results.values_list("position", "name", "passed", "message"))


@pytest.mark.parametrize("checks", ["def check_x(:", "x" * (CHECKS_LENGTH + 1), "x = '\0'"])
def test_checks_that_are_no_python_or_endless_are_refused(checks, exercise):
    exercise.checks = checks
    with pytest.raises(ValidationError) as refused:
        exercise.full_clean()

    assert list(refused.value.error_dict) == ["checks"]


def test_what_checks_say_is_stored_in_place_of_what_they_said_before(submit):
    submission = submit()
    submission.settle(Report([Result(str(n), True) for n in range(3)]))
    assert submission.state == "passed"

    submission.settle(REPORT)
    submission.settle(REPORT)

    submission.refresh_from_db()
    assert (submission.state, submission.message, submission.is_open) == ("failed", "", False)
    assert results(submission) == [(0, "one", True, ""), (1, "two", False, "It is 3.")]
    assert submission.checked_at


def test_a_message_instead_of_results_is_a_failure(submit):
    submission = submit()
    submission.settle(Report(message="Syntax error."))

    assert (submission.state, submission.message, results(submission)) == ("failed", "Syntax error.", [])


def test_one_that_was_deleted_meanwhile_stays_deleted(submit):
    submission = submit()
    Submission.objects.all().delete()

    submission.settle(REPORT)

    assert not Submission.objects.exists()


def test_giving_up_changes_none_that_was_checked(submit):
    waiting, done = submit(), submit()
    done.settle(Report([Result("one", True)]))

    waiting.give_up()
    done.give_up()

    assert list(Submission.objects.order_by("pk").values_list("state", flat=True)) == ["failed", "passed"]
    assert "our fault" in Submission.objects.get(pk=waiting.pk).message


def test_a_batch_has_what_there_was_when_it_began_by_key(exercise, submit):
    submissions = [submit() for _ in range(5)]
    batch = Batch.objects.create(exercise=exercise, last=submissions[3].pk)

    assert list(batch.after(0).order_by("pk")[:2]) == submissions[:2]
    assert list(batch.after(submissions[1].pk).order_by("pk")) == submissions[2:4]
    submissions[0].delete()
    assert list(batch.after(submissions[1].pk).order_by("pk")) == submissions[2:4]
