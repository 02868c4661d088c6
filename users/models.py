"""The user: an email address and a password."""

from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import PermissionsMixin
from django.db import models
from django.db.models import Value
from django.db.models.functions import Lower
from django.db.models.lookups import Exact
from django.utils import timezone


class UserManager(BaseUserManager["User"]):
    """Makes users, and finds them by their address in any case."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Save a new user. Without a password, nobody can log in until one is set."""
        return self.create_with_hash(email, make_password(password), **fields)

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Save a new user who may do everything, in the admin too."""
        return self.create_user(email, password, **{"is_staff": True, "is_superuser": True} | fields)

    def create_with_hash(self, email: str, password_hash: str, **fields: Any) -> "User":
        """Save a new user whose password was hashed beforehand."""
        if not email:
            raise ValueError(f"A user needs an email address, not {email!r}.")
        return self.create(email=self.normalize_email(email), password=password_hash, **fields)

    def with_email(self, email: str) -> "models.QuerySet[User]":
        """The user with this address, in any case, or nobody; at most one, and by the index that makes it so."""
        return self.filter(Exact(Lower("email"), Lower(Value(self.normalize_email(email)))))

    def get_by_natural_key(self, email: str | None) -> "User":
        """How Django finds the user who logs in."""
        return self.with_email(email or "").get()

    @classmethod
    def normalize_email(cls, email: str | None) -> str:
        """As it is compared and kept: one spelling for letters that look alike, the domain in lower case."""
        return super().normalize_email(AbstractBaseUser.normalize_username(email or ""))


class User(AbstractBaseUser, PermissionsMixin):
    """
    Somebody who learns on Jiki, or runs it.

    The address is kept as it was typed, since a mail server may tell cases apart, but no two users have addresses
    that differ in case alone.
    """

    email = models.EmailField(
        "email address",
        unique=True,  # Django asks it of a login; the constraint below is the stricter one
        error_messages={"unique": "A user with this email address already exists."},
    )
    is_active = models.BooleanField(
        "active", default=True, help_text="Clear this instead of deleting an account: nobody can log in to it then."
    )
    is_staff = models.BooleanField("staff", default=False, help_text="May log in to the admin.")
    date_joined = models.DateTimeField(default=timezone.now, editable=False)

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    objects: ClassVar[UserManager] = UserManager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                Lower("email"),
                name="users_user_email_in_any_case",
                violation_error_message="A user with this email address already exists.",
            )
        ]

    def __str__(self) -> str:
        return self.email

    def clean(self) -> None:
        super().clean()
        self.email = User.objects.normalize_email(self.email)
