import re
import threading
from typing import Any

import pytest
from django.core import mail
from django.db import connection
from django.test import Client, TestCase
from django.urls import reverse
from django.utils import timezone

from jobs.outbox.relay import send_all
from jobs.queues import get_queue
from jobs.testing import JobsTestMixin, Kit
from tests.servers import Valkey
from tests.users.conftest import PASSWORD
from users import views
from users.commands.send_already_registered_email import SendAlreadyRegisteredEmail
from users.commands.send_welcome_email import SendWelcomeEmail
from users.models import User

pytestmark = pytest.mark.django_db
URL = "/signup/"


def sign_up(client: Client, email: str = "learner@example.org", password: str = PASSWORD) -> Any:
    return client.post(URL, {"email": email, "password": password})


def test_the_page_asks_for_an_address_and_a_password(client: Client) -> None:
    page = client.get(URL)

    assert page.status_code == 200
    assert list(page.context["form"].fields) == ["email", "password"]


class SignupTest(JobsTestMixin, TestCase):
    def test_who_signs_up_is_welcomed(self):
        self.client.post("/signup/", {"email": "learner@example.org", "password": PASSWORD})

        self.assert_enqueued_with(SendWelcomeEmail, args=(User.objects.get(),), queue="mailers")


def test_signing_up_makes_an_account_and_defers_the_welcome_mail(client: Client, jobs: Kit) -> None:
    answer = sign_up(client)

    user = User.objects.get()
    assert user.email == "learner@example.org"
    assert user.check_password(PASSWORD)
    jobs.assert_enqueued_jobs(1)
    jobs.assert_enqueued_with(SendWelcomeEmail, args=(user,), queue="mailers")
    assert answer.url == reverse("users:signed_up")
    assert "Check your mail" in client.get(answer.url).content.decode()


def test_signing_up_does_not_log_in(client: Client) -> None:
    sign_up(client)

    assert "_auth_user_id" not in client.session


def logged_in(client: Client, email: str, password: str, url: str = "/login/") -> bool:
    page = client.post(url, {"username": email, "password": password})
    assert page.status_code == 302 or page.context["form"].errors.as_data()["__all__"][0].code == "invalid_login"
    return "_auth_user_id" in client.session


def link_in_the_mail(jobs: Kit) -> str:
    jobs.perform_enqueued_jobs(queue="mailers")
    found = re.search(r"http://test\.host(\S+)", str(mail.outbox[-1].body))
    assert found
    return found[1]


@pytest.mark.parametrize("is_taken", [True, False])
def test_nobody_logs_in_before_the_mailed_link_is_followed(client: Client, jobs: Kit, is_taken: bool) -> None:
    """So a stranger who signs up with an address, and tries to log in, does not learn whether it had an account."""
    if is_taken:
        User.objects.create_user("learner@example.org", "another-quilt-43")
    sign_up(client)

    assert not logged_in(client, "learner@example.org", PASSWORD)
    assert not logged_in(client, "learner@example.org", PASSWORD, "/login/?confirm=x")
    assert not logged_in(client, "learner@example.org", PASSWORD, "/admin/login/")


def test_the_mailed_link_and_the_password_confirm_the_account(client: Client, jobs: Kit) -> None:
    sign_up(client)
    link = link_in_the_mail(jobs)

    client.get(link)  # programs that check mails follow links
    assert User.objects.get().is_unconfirmed
    assert not logged_in(client, "learner@example.org", "wrong", link)
    assert logged_in(client, "learner@example.org", PASSWORD, link)
    assert not User.objects.get().is_unconfirmed
    assert logged_in(Client(), "learner@example.org", PASSWORD)


def test_the_link_of_another_account_confirms_nothing(client: Client, jobs: Kit) -> None:
    sign_up(client, "bob@example.org")
    link = link_in_the_mail(jobs)
    sign_up(client)

    assert not logged_in(client, "learner@example.org", PASSWORD, link)


def test_the_link_is_for_the_address_that_it_was_mailed_to(client: Client, jobs: Kit) -> None:
    sign_up(client)
    link = link_in_the_mail(jobs)
    User.objects.update(email="moved@example.org")

    assert not logged_in(client, "moved@example.org", PASSWORD, link)


def test_who_signs_up_again_gets_a_link_that_confirms(client: Client, jobs: Kit) -> None:
    sign_up(client)
    sign_up(client)

    jobs.perform_enqueued_jobs(queue="mailers")
    links = [re.search(r"http://test\.host(\S+)", str(each.body))[1] for each in mail.outbox]  # type: ignore[index]
    assert len(links) == 2
    assert all("confirm=" in link for link in links)


def test_who_is_logged_in_has_no_use_for_it(client: Client, user: User) -> None:
    client.force_login(user)

    assert client.get(URL).url == reverse("home")


@pytest.mark.parametrize("taken", ["Learner@example.org", "lEARNER@Example.org"])
def test_a_taken_address_is_not_revealed(client: Client, user: User, jobs: Kit, taken: str) -> None:
    with jobs.assert_enqueued_jobs(1, queue="mailers"):
        new = sign_up(client, "new@example.org")
    with jobs.assert_enqueued_jobs(1, queue="mailers"):
        old = sign_up(client, taken)

    assert (old.status_code, old.url, old.content) == (new.status_code, new.url, new.content)
    assert set(old.headers.items()) == set(new.headers.items())
    assert old.cookies.keys() == new.cookies.keys()
    assert client.get(old.url).content == client.get(new.url).content
    jobs.assert_enqueued_with(SendAlreadyRegisteredEmail, args=(user, timezone.localdate()))
    assert User.objects.count() == 2


def test_a_taken_address_keeps_its_password(client: Client, user: User) -> None:
    sign_up(client, user.email, "another-quilt-43")

    user.refresh_from_db()
    assert user.check_password(PASSWORD)


def test_a_taken_address_costs_a_hash_too(client: Client, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    monkeypatch.setattr("users.commands.sign_up.make_password", lambda raw: hashed.append(raw) or "!")

    sign_up(client, user.email)

    assert hashed == [PASSWORD]


@pytest.mark.django_db(transaction=True)
def test_two_signups_at_the_same_moment_make_one_account(jobs: Kit) -> None:
    both_ready = threading.Barrier(2, timeout=20)
    answers: list[Any] = []

    def one(email: str) -> None:
        both_ready.wait()
        answers.append(sign_up(Client(), email))
        connection.close()

    threads = [threading.Thread(target=one, args=(email,)) for email in ("learner@example.org", "LEARNER@example.org")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [(answer.status_code, answer.url) for answer in answers] == [(302, reverse("users:signed_up"))] * 2
    user = User.objects.get()
    jobs.assert_enqueued_jobs(2)
    jobs.assert_enqueued_with(SendWelcomeEmail, args=(user,))
    jobs.assert_enqueued_with(SendAlreadyRegisteredEmail, args=(user, timezone.localdate()))


@pytest.mark.parametrize(
    ("email", "password", "complaint"),
    [
        ("", PASSWORD, "This field is required"),
        ("learner", PASSWORD, "Enter a valid email address"),
        ("learner@example.org\nBcc: bob@example.org", PASSWORD, "Enter a valid email address"),
        ("learner\0@example.org", PASSWORD, "Null characters are not allowed"),
        (f"{'a' * 250}@example.org", PASSWORD, "at most 254 characters"),
        ("\N{LATIN SMALL LETTER DOTLESS I}@example.org", PASSWORD, "Enter a valid email address"),
        (f"{chr(0xFDFA) * 20}@example.org", PASSWORD, "Enter a valid email address"),
        ('"a\x01b"@example.org', PASSWORD, "Enter a valid email address"),
        ('"a\x7fb"@example.org', PASSWORD, "Enter a valid email address"),
        ("learner@[127.0.0.1]", PASSWORD, "Enter a valid email address"),
        ("learner@example.org", "", "This field is required"),
        ("learner@example.org", "short1!", "too short"),
        ("learner@example.org", "password", "too common"),
        ("learner@example.org", "8463926105", "entirely numeric"),
        ("adalovelace@example.org", "adalovelace", "too similar to the email address"),
        ("learner@example.org", "quilt\0zebra-42", "Null characters are not allowed"),
        ("learner@example.org", "x" * 5000, "at most 4096 characters"),
    ],
)
def test_bad_input_is_sent_back_with_the_reason(
    client: Client, jobs: Kit, email: str, password: str, complaint: str
) -> None:
    page = sign_up(client, email, password)

    assert page.status_code == 200
    assert complaint in page.content.decode()
    assert not User.objects.exists()
    jobs.assert_no_enqueued_jobs()


def test_bytes_that_are_no_text_are_sent_back_too(client: Client) -> None:
    body = b"email=%ff%fe%40example.org&password=quilt-zebra-42"

    page = client.post(URL, body, content_type="application/x-www-form-urlencoded")

    assert page.status_code == 200
    assert "Enter a valid email address" in page.content.decode()


def test_the_same_form_is_needed_that_was_shown() -> None:
    answer = sign_up(Client(enforce_csrf_checks=True))

    assert answer.status_code == 403
    assert "Please send it again" in answer.content.decode()


def test_too_many_signups_from_one_address_are_told_to_wait(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "SIGNUP_RATE", "1/h")
    # Half of the hour is left, whenever the test runs.
    monkeypatch.setattr("django_ratelimit.core._get_window", lambda value, period: 2_000_000_000)
    monkeypatch.setattr("django_ratelimit.core.time.time", lambda: 2_000_000_000 - 1800)

    sign_up(client)
    page = sign_up(client, "bob@example.org")

    assert page.status_code == 429
    assert page["Retry-After"] == "1800"
    assert "in\n    30 minutes" in page.content.decode()
    assert User.objects.count() == 1


def test_a_form_with_mistakes_does_not_count_as_a_signup(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "SIGNUP_RATE", "1/h")
    for _ in range(3):
        sign_up(client, password="short")

    assert sign_up(client).status_code == 302


@pytest.mark.django_db(transaction=True)
def test_without_redis_she_has_her_account_and_gets_her_mail_later(client: Client, valkey: Valkey) -> None:
    valkey.stop()

    first, second = sign_up(client), sign_up(client)

    assert (first.status_code, first.url) == (second.status_code, second.url) == (302, reverse("users:signed_up"))
    assert User.objects.count() == 1
    valkey.start()
    assert send_all() == 2
    assert len(get_queue("mailers").job_ids) == 2
