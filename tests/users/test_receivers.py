import pytest
from django.db import transaction

from jobs.testing import Kit
from users.commands.send_welcome_email import SendWelcomeEmail
from users.models import User
from users.signals import user_signed_up


def test_who_signed_up_is_bootstrapped(user: User, jobs: Kit) -> None:
    user_signed_up.send(sender=User, user=user)

    jobs.assert_enqueued_with(SendWelcomeEmail, args=(user,))


@pytest.mark.django_db
def test_a_signup_that_is_rolled_back_leaves_no_job(jobs: Kit) -> None:
    def sign_up_and_fail() -> None:
        with transaction.atomic():
            user_signed_up.send(sender=User, user=User.objects.create_user("learner@example.org"))
            raise KeyError("something after it")

    with jobs.assert_no_enqueued_jobs(), pytest.raises(KeyError):
        sign_up_and_fail()

    assert not User.objects.exists()
