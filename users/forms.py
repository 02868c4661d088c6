"""The forms of the account pages."""

import logging
from collections.abc import Iterator
from typing import Any

from django import forms
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth import forms as auth_forms
from django.contrib.auth import password_validation
from django.http import HttpRequest
from django.utils import timezone

from jobs.errors import RedisUnavailableError
from mailers import addresses
from users import throttle
from users.commands.send_password_reset_email import SendPasswordResetEmail
from users.links import confirms
from users.models import User

logger = logging.getLogger(__name__)

# A class behind one address logs in within a lesson. Attempts count, not failures: parallel ones are limited, too.
LOGIN_RATE = "100/h"
ACCOUNT_LOGIN_RATE = "10/15m"
ACCOUNT_RESET_RATE = "3/h"


class AddressField(forms.EmailField):
    """An email address, normalized before it is validated."""

    default_validators = [addresses.validate]

    def to_python(self, value: Any) -> str:
        return addresses.normalized(super().to_python(value) or "")


class SignupForm(forms.Form):
    """An address and a password. It does not check whether the address is taken: `SignUp` handles that in silence."""

    email = AddressField(
        label="Email address",
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "email", "autofocus": True}),
    )
    password = forms.CharField(
        strip=False,
        max_length=4096,  # as in Django's own forms: hashing a longer one only costs time
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="At least 8 characters, and not one of the passwords everybody uses.",
    )

    def clean(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        if password := cleaned.get("password"):
            try:
                password_validation.validate_password(password, User(email=cleaned.get("email", "")))
            except forms.ValidationError as error:
                self.add_error("password", error)
        return cleaned


class Guarded(auth_forms.AuthenticationForm):
    """
    Django's form, but attempts are limited by address and by account before a password is hashed, and an unconfirmed
    account is entered only by the mailed link.
    """

    def clean(self) -> dict[str, Any]:
        account = User.objects.normalize_email(self.cleaned_data.get("username")).lower()
        request = self.request
        assert request  # noqa: S101 - the view passes it
        wait = throttle.seconds_to_wait(request, "login", LOGIN_RATE)
        if account:
            wait = max(wait, throttle.seconds_to_wait(request, "login", ACCOUNT_LOGIN_RATE, account=account))
        if wait:
            text = f"Too many attempts to log in. Please try again in {-(-wait // 60)} min."
            raise forms.ValidationError(text, code="throttled")
        return super().clean()

    def confirm_login_allowed(self, user: Any) -> None:
        super().confirm_login_allowed(user)
        if user.is_unconfirmed:
            token = self.request.GET.get("confirm", "") if self.request else ""
            if not confirms(token, user):
                raise self.get_invalid_login_error()
            user.is_unconfirmed = False
            user.save(update_fields=["is_unconfirmed"])


class AdminLoginForm(Guarded, AdminAuthenticationForm):
    """The form of the admin's own login."""


class LoginForm(Guarded):
    """With an email field, for which phones show the right keyboard."""

    username = auth_forms.UsernameField(widget=forms.EmailInput(attrs={"autocomplete": "username", "autofocus": True}))
    error_messages = auth_forms.AuthenticationForm.error_messages | {
        "invalid_login": "That email address and password do not match. Passwords are case-sensitive. After a sign-up, "
        "first follow the link that we mailed to you."
    }


class PasswordResetForm(auth_forms.PasswordResetForm):
    """Django's form, but a job sends the mail. It behaves the same whether or not the address has an account."""

    email = forms.EmailField(
        label="Email address",
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "email", "autofocus": True}),
    )

    def get_users(self, email: str) -> Iterator[User]:
        """Return the users who get the link: active ones with a usable password."""
        return (user for user in User.objects.with_email(email) if user.is_active and user.has_usable_password())

    def save(self, *args: Any, request: HttpRequest | None = None, **kwargs: Any) -> None:
        assert request  # noqa: S101 - the view passes it
        account = User.objects.normalize_email(self.cleaned_data["email"]).lower()
        if throttle.seconds_to_wait(request, "password reset", ACCOUNT_RESET_RATE, account=account):
            logger.warning("A password reset mail was not deferred: too many for this account.")
            return  # in silence: the mails before are on their way
        try:
            for user in self.get_users(self.cleaned_data["email"]):
                SendPasswordResetEmail.defer(user, timezone.now())
        except RedisUnavailableError:
            # An error page would reveal that the account exists; the next page advises to try again.
            logger.exception("A password reset mail was not deferred.")
