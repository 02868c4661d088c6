from typing import Any

import pytest
from django.contrib.auth import hashers
from django.test import Client
from django.urls import reverse

from tests.users.conftest import PASSWORD
from users.models import User

pytestmark = pytest.mark.django_db


def log_in(client: Client, email: str, password: str = PASSWORD) -> Any:
    return client.post(reverse("users:login"), {"username": email, "password": password})


@pytest.mark.parametrize("url", ["/login", "/login/"])
def test_the_page_is_served_with_and_without_a_slash(client: Client, url: str) -> None:
    page = client.get(url)

    assert page.status_code == 200
    assert 'type="email"' in page.content.decode()


def test_who_logs_in_is_greeted_on_the_start_page(client: Client, user: User) -> None:
    answer = log_in(client, "learner@EXAMPLE.org")

    assert answer.url == reverse("home")
    assert user.email in client.get(answer.url).content.decode()


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("learner@example.org", "wrong"),
        ("bob@example.org", PASSWORD),
        ("a" * 5000, PASSWORD),
        ("a\0@example.org", PASSWORD),
    ],
)
def test_what_does_not_fit_is_sent_back(client: Client, user: User, email: str, password: str) -> None:
    page = log_in(client, email, password)

    assert page.status_code == 200
    assert page.context["form"].errors


def test_it_leads_on_to_our_own_pages_only(client: Client, user: User) -> None:
    fields = {"username": user.email, "password": PASSWORD, "next": "https://example.org/"}

    assert client.post(reverse("users:login"), fields).url == reverse("home")


def test_logging_out_takes_a_post(client: Client, user: User) -> None:
    client.force_login(user)

    assert client.get(reverse("users:logout")).status_code == 405
    assert client.post(reverse("users:logout")).url == reverse("home")
    assert "_auth_user_id" not in client.session


@pytest.mark.parametrize("url", ["/login/", "/login"])
@pytest.mark.parametrize("target", ["/login/", "/login", "/login/?next=/login/", "http://testserver/login/"])
def test_the_login_does_not_lead_to_itself(client: Client, user: User, url: str, target: str) -> None:
    client.force_login(user)

    assert client.get(url, {"next": target}).url == reverse("home")


# --- limits ------------------------------------------------------------------------------------

DOORS = pytest.mark.parametrize("door", ["users:login", "admin:login"])


def knock(client: Client, door: str, email: str, address: str = "192.0.2.1", password: str = "wrong") -> Any:
    return client.post(reverse(door), {"username": email, "password": password}, REMOTE_ADDR=address)


@DOORS
def test_attempts_at_an_account_are_limited_wherever_they_come_from(
    client: Client, user: User, door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        page = knock(client, door, f"{user.email} " if number % 2 else user.email.upper(), f"192.0.2.{number}")
        assert "Too many attempts" not in page.content.decode()
    hashed: list[object] = []
    monkeypatch.setattr(hashers.MD5PasswordHasher, "verify", lambda *args: hashed.append(args))

    page = knock(client, door, user.email, "198.51.100.1", PASSWORD)

    assert "Too many attempts to log in. Please try again in" in page.content.decode()
    assert hashed == []
    assert "_auth_user_id" not in client.session


@DOORS
def test_attempts_of_an_address_are_limited_whatever_account_they_are_for(
    client: Client, db: None, door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("users.forms.LOGIN_RATE", "3/h")
    pages = [knock(client, door, f"a{number}@example.org").content.decode() for number in range(4)]

    assert ["Too many attempts" in page for page in pages] == [False, False, False, True]
    assert "Too many" not in knock(client, door, "a9@example.org", "192.0.2.2").content.decode()
