import pytest
from django.test import Client
from django.urls import reverse

from tests.users.conftest import PASSWORD
from users.models import User

LIST, ADD = "admin:users_user_changelist", "admin:users_user_add"


@pytest.fixture
def staff(client: Client, db: None) -> Client:
    client.force_login(User.objects.create_superuser("root@example.org", PASSWORD))
    return client


def change_url(user: User) -> str:
    return reverse("admin:users_user_change", args=[user.pk])


def test_users_are_listed_and_found_by_address(staff: Client, user: User) -> None:
    page = staff.get(reverse(LIST), {"q": "LEARNER"}).content.decode()

    assert user.email in page
    assert change_url(user) in page


def test_a_user_is_added(staff: Client) -> None:
    assert staff.get(reverse(ADD)).status_code == 200
    fields = {"email": "bob@Example.org", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}

    answer = staff.post(reverse(ADD), fields)

    added = User.objects.get(email="bob@example.org")
    assert answer.url == change_url(added)
    assert added.check_password(PASSWORD)


def test_a_taken_address_is_refused_in_any_case(staff: Client, user: User) -> None:
    fields = {"email": "LEARNER@example.org", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}

    page = staff.post(reverse(ADD), fields)

    assert page.status_code == 200
    assert "A user with this email address already exists." in page.content.decode()


def test_a_user_is_changed(staff: Client, user: User) -> None:
    assert staff.get(change_url(user)).status_code == 200

    answer = staff.post(change_url(user), {"email": "learner@example.com", "is_staff": "on"})

    assert answer.url == reverse(LIST)
    user.refresh_from_db()
    assert (user.email, user.is_active, user.is_staff) == ("learner@example.com", False, True)
    assert user.check_password(PASSWORD)


def test_the_change_of_nothing_but_the_case_of_an_address_is_allowed(staff: Client, user: User) -> None:
    staff.post(change_url(user), {"email": "LEARNER@example.org", "is_active": "on"})

    user.refresh_from_db()
    assert user.email == "LEARNER@example.org"


def test_a_password_is_set(staff: Client, user: User) -> None:
    url = reverse("admin:auth_user_password_change", args=[user.pk])
    assert staff.get(url).status_code == 200

    staff.post(url, {"usable_password": "true", "password1": "another-quilt-43", "password2": "another-quilt-43"})

    user.refresh_from_db()
    assert user.check_password("another-quilt-43")
