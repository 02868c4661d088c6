"""The mail with the link to a copy of the user's data."""

from typing import TYPE_CHECKING

from mailers.delivery import send_once

if TYPE_CHECKING:
    from users.models import User


def send(user: "User", number: int, export_url: str) -> bool:
    """Mail the link to the export `number`, once. Return whether the mail was sent now."""
    return send_once(
        "data_export",
        f"{user.pk} {number}",
        to=user.email,
        subject="Your Jiki data is ready",
        context={"export_url": export_url},
    )
