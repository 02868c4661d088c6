from collections.abc import Iterator

import pytest
from django.db import IntegrityError

from jobs.testing import Kit
from tests.users.conftest import PASSWORD
from users.commands.sign_up import SignUp
from users.models import User
from users.signals import user_signed_up

pytestmark = pytest.mark.django_db


@pytest.fixture
def failing_step() -> Iterator[None]:
    def fail(**_: object) -> None:
        raise IntegrityError("a step of another app")

    user_signed_up.connect(fail)
    yield
    user_signed_up.disconnect(fail)


def test_listeners_get_a_user_who_is_saved(jobs: Kit) -> None:
    heard = []

    def listen(user: User, **_: object) -> None:
        heard.append((user.email, User.objects.filter(pk=user.pk).exists()))

    user_signed_up.connect(listen)
    SignUp.run("learner@example.org", PASSWORD)
    user_signed_up.disconnect(listen)

    assert heard == [("learner@example.org", True)]


def test_a_step_that_fails_undoes_the_signup_and_is_not_taken_for_a_taken_address(
    failing_step: None, jobs: Kit
) -> None:
    with jobs.assert_no_enqueued_jobs(), pytest.raises(IntegrityError, match="a step of another app"):
        SignUp.run("learner@example.org", PASSWORD)

    assert not User.objects.exists()


def test_the_password_is_not_shown() -> None:
    assert PASSWORD not in repr(SignUp("learner@example.org", PASSWORD))
