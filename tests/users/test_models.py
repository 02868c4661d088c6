from importlib import import_module
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.contrib.auth import authenticate
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection

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


@pytest.mark.parametrize("other", ["bob@xn--exmple-cua.org", "bob@EX\N{LATIN CAPITAL LETTER A WITH DIAERESIS}MPLE.org"])
def test_both_forms_of_an_international_domain_are_one_address(other: str) -> None:
    user = User.objects.create_user("bob@ex\N{LATIN SMALL LETTER A WITH DIAERESIS}mple.org", PASSWORD)

    assert user.email == "bob@xn--exmple-cua.org"
    assert authenticate(username=other, password=PASSWORD) == user
    with pytest.raises(IntegrityError):
        User.objects.create_user(other)


@pytest.mark.parametrize(
    "email", ['"a\x01"@example.org', f"{chr(0xFDFA) * 20}@example.org", "\N{LATIN SMALL LETTER DOTLESS I}@example.org"]
)
def test_an_address_that_cannot_be_mailed_is_an_error_of_validation(email: str) -> None:
    with pytest.raises(ValidationError, match="Enter a valid email address"):
        User(email=email, password="!").full_clean()


def test_addresses_of_the_release_before_are_migrated() -> None:
    old = User.objects.create_user("x@example.org")
    twin, taken = User.objects.create_user("y@example.org"), User.objects.create_user("bob@xn--exmple-cua.org")
    User.objects.filter(pk=old.pk).update(email="ann@ex\N{LATIN SMALL LETTER A WITH DIAERESIS}mple.org")
    User.objects.filter(pk=twin.pk).update(email="bob@ex\N{LATIN SMALL LETTER A WITH DIAERESIS}mple.org")
    import_module("users.migrations.0002_unconfirmed_and_addresses").normalize(
        apps, SimpleNamespace(connection=connection)
    )

    old.refresh_from_db()
    assert old.email == "ann@xn--exmple-cua.org"
    assert set(User.objects.filter(pk__in=[twin.pk, taken.pk]).values_list("email", flat=True)) == {
        "bob@xn--exmple-cua.org",
        "bob@ex\N{LATIN SMALL LETTER A WITH DIAERESIS}mple.org",
    }
