from typing import Any

import pytest
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
