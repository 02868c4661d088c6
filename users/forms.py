"""The forms of the account pages."""

import logging
from collections.abc import Iterator
from typing import Any

from django import forms
from django.contrib.auth import forms as auth_forms
from django.contrib.auth import password_validation
from django.utils import timezone

from jobs.errors import RedisUnavailableError
from users.commands.send_password_reset_email import SendPasswordResetEmail
from users.models import User

logger = logging.getLogger(__name__)


class SignupForm(forms.Form):
    """An address and a password. It does not check whether the address is taken: `SignUp` handles that in silence."""

    email = forms.EmailField(
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


class LoginForm(auth_forms.AuthenticationForm):
    """Django's form, with an email field, for which phones show the right keyboard."""

    username = auth_forms.UsernameField(widget=forms.EmailInput(attrs={"autocomplete": "username", "autofocus": True}))
    error_messages = auth_forms.AuthenticationForm.error_messages | {
        "invalid_login": "That email address and password do not match. Passwords are case-sensitive."
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

    def save(self, *args: Any, **kwargs: Any) -> None:
        try:
            for user in self.get_users(self.cleaned_data["email"]):
                SendPasswordResetEmail.defer(user, timezone.now())
        except RedisUnavailableError:
            # An error page would reveal that the account exists; the next page advises to try again.
            logger.exception("A password reset mail was not deferred.")
