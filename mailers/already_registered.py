"""The mail to the owner of an address that somebody tried to sign up with."""

from datetime import date
from typing import TYPE_CHECKING

from mailers.delivery import send_once

if TYPE_CHECKING:
    from users.models import User


def send(user: "User", day: date, login_url: str, reset_url: str) -> bool:
    """Mail the owner how to log in, at most once a day. Return whether the mail was sent now."""
    return send_once(
        "already_registered",
        f"{user.pk} {day.isoformat()}",
        to=user.email,
        subject="You already have a Jiki account",
        context={"login_url": login_url, "reset_url": reset_url},
    )
