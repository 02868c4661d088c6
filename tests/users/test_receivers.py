from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from users.models import User
from users.signals import user_signed_up

Jobs = Callable[[], list[tuple[str, list[Any]]]]


@pytest.mark.django_db(transaction=True)
def test_who_signed_up_is_bootstrapped(user: User, mailer_jobs: Jobs) -> None:
    user_signed_up.send(sender=User, user=user)

    assert mailer_jobs() == [("users.SendWelcomeEmail", [user])]


@pytest.mark.django_db(transaction=True)
def test_a_signup_that_is_rolled_back_leaves_no_job(mailer_jobs: Jobs) -> None:
    def sign_up_and_fail() -> None:
        with transaction.atomic():
            user_signed_up.send(sender=User, user=User.objects.create_user("learner@example.org"))
            assert mailer_jobs() == []
            raise KeyError("something after it")

    with pytest.raises(KeyError):
        sign_up_and_fail()

    assert mailer_jobs() == []
    assert not User.objects.exists()
