"""The user: an email address and a password."""

from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import PermissionsMixin
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Value
from django.db.models.functions import Lower
from django.db.models.lookups import Exact
from django.utils import timezone

from mailers import addresses


class UserManager(BaseUserManager["User"]):
    """Creates users, and looks them up by their address in any case."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Save a new user. Without a password the user cannot log in until one is set."""
        return self.create_with_hash(email, make_password(password), **fields)

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Save a new user with all permissions, and access to the admin."""
        return self.create_user(email, password, **{"is_staff": True, "is_superuser": True} | fields)

    def create_with_hash(self, email: str, password_hash: str, **fields: Any) -> "User":
        """Save a new user with a hashed password."""
        if not email:
            raise ValueError(f"A user needs an email address, not {email!r}.")
        return self.create(email=self.normalize_email(email), password=password_hash, **fields)

    def with_email(self, email: str) -> "models.QuerySet[User]":
        """Return the user with this address, in any case: at most one. The query uses the unique index."""
        return self.filter(Exact(Lower("email"), Lower(Value(self.normalize_email(email)))))

    def get_by_natural_key(self, email: str | None) -> "User":
        """Return the user who logs in; Django calls this."""
        return self.with_email(email or "").get()

    @classmethod
    def normalize_email(cls, email: str | None) -> str:
        """Return the address as it is stored and compared."""
        return addresses.normalized(email or "")


class User(AbstractBaseUser, PermissionsMixin):
    """
    A learner on Jiki, or one of its staff.

    The address is stored as it was typed, since a mail server may distinguish case, but no two users have addresses
    that differ only in case.
    """

    email = models.EmailField(
        "email address",
        unique=True,  # Django requires it of USERNAME_FIELD; the constraint below is stricter
        error_messages={"unique": "A user with this email address already exists."},
    )
    is_active = models.BooleanField(
        "active", default=True, help_text="Clear this instead of deleting an account: nobody can log in to it then."
    )
    is_staff = models.BooleanField("staff", default=False, help_text="May log in to the admin.")
    is_unconfirmed = models.BooleanField(
        "unconfirmed",
        default=False,
        db_default=False,  # for web processes of the release before
        help_text="Signed up, and has not followed the mailed link yet: nobody can log in to it until then.",
    )
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
        try:
            addresses.validate(self.email)
        except ValidationError as error:
            raise ValidationError({"email": error}) from None
