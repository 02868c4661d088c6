import pytest
from django.contrib.auth import authenticate
from django.core.exceptions import ValidationError
from django.db import IntegrityError

from tests.users.conftest import PASSWORD
from users.models import User

pytestmark = pytest.mark.django_db


def test_a_user_is_made_with_an_address_and_a_password() -> None:
    user = User.objects.create_user("Learner@EXAMPLE.org", PASSWORD)

    assert user.email == "Learner@example.org"
    assert user.check_password(PASSWORD)
    assert (user.is_active, user.is_staff, user.is_superuser) == (True, False, False)
    assert str(user) == "Learner@example.org"


def test_without_a_password_nobody_can_log_in() -> None:
    assert not User.objects.create_user("learner@example.org").has_usable_password()


def test_a_superuser_may_do_everything() -> None:
    user = User.objects.create_superuser("learner@example.org", PASSWORD)

    assert user.is_staff
    assert user.is_superuser


def test_a_user_without_an_address_is_refused() -> None:
    with pytest.raises(ValueError, match="needs an email address, not ''"):
        User.objects.create_user("")


@pytest.mark.parametrize("other", ["Learner@example.org", "LEARNER@example.org", "learner@Example.ORG"])
def test_two_users_cannot_have_one_address_in_any_case(user: User, other: str) -> None:
    with pytest.raises(IntegrityError):
        User.objects.create_user(other)


def test_an_address_in_another_case_is_an_error_of_validation_too(user: User) -> None:
    with pytest.raises(ValidationError, match="A user with this email address already exists"):
        User(email="lEARNER@EXAMPLE.org", password="!").full_clean()


@pytest.mark.parametrize("typed", ["Learner@example.org", "learner@example.org", "LEARNER@EXAMPLE.ORG"])
def test_the_login_does_not_mind_the_case_of_the_address(user: User, typed: str) -> None:
    assert authenticate(username=typed, password=PASSWORD) == user
    assert User.objects.get_by_natural_key(typed) == user


def test_letters_that_look_alike_are_one_address() -> None:
    user = User.objects.create_user("\N{KELVIN SIGN}im@example.org", PASSWORD)

    assert user.email == "Kim@example.org"
    assert authenticate(username="\N{KELVIN SIGN}im@example.org", password=PASSWORD) == user


@pytest.mark.parametrize("nobody", ["", None, "a%@example.org", "_da@example.org"])
def test_nobody_is_found_by_a_pattern_or_by_nothing(user: User, nobody: str | None) -> None:
    with pytest.raises(User.DoesNotExist):
        User.objects.get_by_natural_key(nobody)


def test_somebody_who_is_not_active_cannot_log_in(user: User) -> None:
    user.is_active = False
    user.save()

    assert authenticate(username=user.email, password=PASSWORD) is None
