"""The mail that welcomes a new user."""

from typing import TYPE_CHECKING

from mailers.delivery import send_once

if TYPE_CHECKING:
    from users.models import User


def send(user: "User", login_url: str) -> bool:
    """Mail the welcome, once in the life of the account. Return whether the mail was sent now."""
    return send_once(
        "welcome",
        str(user.pk),
        to=user.email,
        subject="Welcome to Jiki",
        context={"login_url": login_url},
    )
