"""What the tests of the product share."""

import pytest

from jiki.models import CheckResult, Exercise, Submission, SubmissionFile
from users.models import User


@pytest.fixture
def pupil(db):
    return User.objects.create_user("learner@example.org", "quilt-zebra-42")


@pytest.fixture
def stranger(db):
    return User.objects.create_user("stranger@example.org", "quilt-zebra-42")


@pytest.fixture
def loops(db):
    """An exercise, the only one."""
    Exercise.objects.all().delete()
    return Exercise.objects.create(slug="loops", title="Loops", text="Write one.", checks="def check_it(): ...")


@pytest.fixture
def hand_in():
    """Store a submission as it is once it was checked: `hand_in(user, exercise, passed=True, files={...})`."""

    def hand_in(user, exercise, *, passed=True, files=None, **fields):
        state = Submission.State.PASSED if passed else Submission.State.FAILED
        submission = Submission.objects.create(user=user, exercise=exercise, state=state, **fields)
        for path, content in (files or {"main.py": "print(1)\n"}).items():
            SubmissionFile.objects.create(submission=submission, path=path, content=content)
        message = "" if passed else "It gave 2."
        CheckResult.objects.create(submission=submission, position=0, name="check_it", passed=passed, message=message)
        return submission

    return hand_in
