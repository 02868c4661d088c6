"""The mail with the link to choose a new password."""

from datetime import datetime
from typing import TYPE_CHECKING

from mailers.delivery import send_once

if TYPE_CHECKING:
    from users.models import User


def send(user: "User", requested_at: datetime, reset_url: str) -> bool:
    """Mail the link, once for each request. Return whether the mail was sent now."""
    return send_once(
        "password_reset",
        f"{user.pk} {requested_at.isoformat()}",
        to=user.email,
        subject="Choose a new Jiki password",
        context={"email": user.email, "reset_url": reset_url},
    )
