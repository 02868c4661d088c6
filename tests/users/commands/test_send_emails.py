"""The commands that send mail, run as a worker runs them: from their payload."""

from datetime import UTC, date, datetime

import pytest
from django.core import mail

from jobs import Mandate
from jobs.testing import Kit, assert_idempotent
from users.commands.send_already_registered_email import SendAlreadyRegisteredEmail
from users.commands.send_password_reset_email import SendPasswordResetEmail
from users.commands.send_welcome_email import SendWelcomeEmail
from users.models import User

pytestmark = pytest.mark.django_db


def jobs_for(user: User) -> list[tuple[type[Mandate], tuple[object, ...]]]:
    return [
        (SendWelcomeEmail, (user,)),
        (SendAlreadyRegisteredEmail, (user, date(2026, 3, 1))),
        (SendPasswordResetEmail, (user, datetime(2026, 3, 1, 12, tzinfo=UTC))),
    ]


@pytest.mark.parametrize("number", range(3))
def test_a_job_that_runs_twice_sends_once(user: User, number: int) -> None:
    command, args = jobs_for(user)[number]

    assert_idempotent(command, *args)

    assert [message.to for message in mail.outbox] == [[user.email]]


@pytest.mark.parametrize("number", range(3))
def test_a_user_who_is_gone_gets_no_mail(user: User, number: int, jobs: Kit) -> None:
    command, args = jobs_for(user)[number]
    job = command.defer(*args)
    user.delete()

    jobs.perform_enqueued_jobs()
    jobs.travel(5)

    assert (job.state, "users.User:" in job.reason) == ("discarded", True)
    assert mail.outbox == []


def test_the_user_is_fetched_when_the_job_runs(user: User, jobs: Kit) -> None:
    SendWelcomeEmail.defer(user)
    User.objects.filter(pk=user.pk).update(email="moved@example.org")

    jobs.perform_enqueued_jobs(queue="mailers")

    assert mail.outbox[0].to == ["moved@example.org"]


def test_the_welcome_mail_leads_to_the_login(user: User) -> None:
    SendWelcomeEmail.run(user)

    assert "http://test.host/login\n" in str(mail.outbox[0].body)


def test_an_owner_is_told_once_a_day_at_most(user: User) -> None:
    for day in (date(2026, 3, 1), date(2026, 3, 1), date(2026, 3, 2)):
        SendAlreadyRegisteredEmail.run(user, day)

    assert len(mail.outbox) == 2
    assert "http://test.host/login\n" in str(mail.outbox[0].body)
    assert "http://test.host/password-reset/\n" in str(mail.outbox[0].body)


def test_who_asks_twice_for_a_link_gets_two(user: User) -> None:
    for minute in (1, 2):
        SendPasswordResetEmail.run(user, datetime(2026, 3, 1, 12, minute, tzinfo=UTC))

    assert len(mail.outbox) == 2
