"""An exercise with learners, and what they send in."""

import pytest

from jiki.models import CheckResult, Exercise, Submission, SubmissionFile
from tests.jiki.service import ContentService
from users.models import User

CHECKS = '''
def check_numbers():
    """It adds numbers"""
    expect(solution.add, 1, 2, returns=3)

def check_texts():
    expect(solution.add, "a", "b", returns="ab")
'''
RIGHT = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return 3\n"


@pytest.fixture(autouse=True)
def short_limits(settings):
    """
    Little computing, so that what never ends is soon over; much time, since the machine may be busy.

    Worker processes have the limits of the product.
    """
    settings.SUBMISSION_LIMITS = {"cpu": 1, "wall": 60}


@pytest.fixture
def exercise(db):
    return Exercise.objects.create(slug="adding", title="Adding", text="Add **two** things.", checks=CHECKS)


@pytest.fixture
def learner(db):
    return User.objects.create_user("ada@example.org", "x" * 12)


@pytest.fixture
def submit(exercise, learner):
    """`submit(code, {"other.py": ...})`: a submission that lies in the database."""

    def make(code=RIGHT, more=None, **fields):
        submission = Submission.objects.create(**{"user": learner, "exercise": exercise, **fields})
        for path, content in {"solution.py": code, **(more or {})}.items():
            SubmissionFile.objects.create(submission=submission, path=path, content=content)
        return submission

    return make


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


@pytest.fixture
def service(settings, monkeypatch):
    """The content service, as far as tests need it."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    service = ContentService()
    settings.EXERCISES_API_URL = service.url
    yield service
    service.close()
