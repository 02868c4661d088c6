import re
from typing import Any

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse

from jobs.testing import Kit
from tests.servers import Valkey
from users import views
from users.commands.send_password_reset_email import SendPasswordResetEmail
from users.models import User

pytestmark = pytest.mark.django_db
URL = "/password-reset/"


def link_in_the_mail(jobs: Kit) -> str:
    assert jobs.perform_enqueued_jobs(queue="mailers") == 1
    found = re.search(r"http://test\.host(\S+)", str(mail.outbox[0].body))
    assert found
    return found[1]


def test_the_mailed_link_sets_a_new_password(client: Client, user: User, jobs: Kit) -> None:
    asked = client.post(URL, {"email": "LEARNER@example.org"})
    form = client.get(link_in_the_mail(jobs), follow=True)
    fields = {"new_password1": "another-quilt-43", "new_password2": "another-quilt-43"}
    saved = client.post(form.redirect_chain[-1][0], fields)

    assert asked.url == reverse("users:password_reset_done")
    assert saved.url == reverse("users:password_reset_complete")
    assert client.get(saved.url).status_code == 200
    user.refresh_from_db()
    assert user.check_password("another-quilt-43")


def test_a_link_that_was_used_works_no_more(client: Client, user: User, jobs: Kit) -> None:
    client.post(URL, {"email": user.email})
    link = link_in_the_mail(jobs)
    user.set_password("another-quilt-43")
    user.save()

    assert "no longer works" in client.get(link).content.decode()


def test_a_link_that_is_raced_works_once(
    client: Client, user: User, jobs: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.post(URL, {"email": user.email})
    link, other = link_in_the_mail(jobs), Client()
    form, others = (each.get(link, follow=True).redirect_chain[-1][0] for each in (client, other))
    real, answers = views.PasswordResetConfirm.form_valid, []

    def overtaken(view: Any, form: Any) -> Any:
        """The other one is through between this one's check of the link and its saving."""
        monkeypatch.setattr(views.PasswordResetConfirm, "form_valid", real)
        answers.append(other.post(others, dict.fromkeys(("new_password1", "new_password2"), "the-first-quilt-1")))
        return real(view, form)

    monkeypatch.setattr(views.PasswordResetConfirm, "form_valid", overtaken)
    late = client.post(form, dict.fromkeys(("new_password1", "new_password2"), "the-second-quilt-2"))

    user.refresh_from_db()
    assert user.check_password("the-first-quilt-1")
    assert answers[0].url == reverse("users:password_reset_complete")
    assert "no longer works" in late.content.decode()


def test_a_new_password_confirms_the_account_too(client: Client, user: User, jobs: Kit) -> None:
    User.objects.update(is_unconfirmed=True)
    client.post(URL, {"email": user.email})
    form = client.get(link_in_the_mail(jobs), follow=True).redirect_chain[-1][0]
    client.post(form, dict.fromkeys(("new_password1", "new_password2"), "another-quilt-43"))

    assert not User.objects.get().is_unconfirmed


def test_one_person_gets_few_mails_wherever_the_requests_come_from(client: Client, user: User, jobs: Kit) -> None:
    known = [client.post(URL, {"email": user.email}, REMOTE_ADDR=f"192.0.2.{n}") for n in range(9)]
    unknown = [client.post(URL, {"email": "x@example.org"}, REMOTE_ADDR=f"192.0.2.{n}") for n in range(9)]

    jobs.assert_enqueued_jobs(3)
    assert {answer.url for answer in [*known, *unknown]} == {reverse("users:password_reset_done")}


def test_the_new_password_goes_through_the_validators(client: Client, user: User, jobs: Kit) -> None:
    client.post(URL, {"email": user.email})
    form = client.get(link_in_the_mail(jobs), follow=True)
    page = client.post(form.redirect_chain[-1][0], {"new_password1": "password", "new_password2": "password"})

    assert "too common" in page.content.decode()


def test_the_token_does_not_lie_in_redis(client: Client, user: User, jobs: Kit) -> None:
    client.post(URL, {"email": user.email})

    job = jobs.assert_enqueued_with(SendPasswordResetEmail, queue="mailers")
    assert b"password-reset" not in job.data


def test_an_address_without_an_account_is_not_revealed(client: Client, user: User, jobs: Kit) -> None:
    with jobs.assert_enqueued_jobs(1):
        known = client.post(URL, {"email": user.email})
    with jobs.assert_no_enqueued_jobs():
        unknown = client.post(URL, {"email": "nobody@example.org"})

    assert (known.status_code, known.url, known.content) == (unknown.status_code, unknown.url, unknown.content)
    assert client.get(known.url).status_code == 200


def test_who_may_not_log_in_gets_no_link(client: Client, user: User, jobs: Kit) -> None:
    user.is_active = False
    user.save()
    User.objects.create_user("elsewhere@example.org")

    client.post(URL, {"email": user.email})
    client.post(URL, {"email": "elsewhere@example.org"})

    jobs.assert_no_enqueued_jobs()


@pytest.mark.parametrize("email", ["", "learner", "learner\0@example.org", f"{'a' * 250}@example.org"])
def test_bad_input_is_sent_back(client: Client, email: str) -> None:
    page = client.post(URL, {"email": email})

    assert page.status_code == 200
    assert page.context["form"].errors


def test_too_many_requests_from_one_address_are_told_to_wait(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "RESET_RATE", "0/h")

    assert client.post(URL, {"email": "learner@example.org"}).status_code == 429


@pytest.mark.django_db(transaction=True)
def test_without_redis_nothing_is_revealed_either(
    client: Client, user: User, valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    valkey.stop()

    assert client.post(URL, {"email": user.email}).url == reverse("users:password_reset_done")
    assert "A password reset mail was not deferred" in caplog.text
