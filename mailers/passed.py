"""The mail on exercises that a learner has just passed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mailers.delivery import send_once

if TYPE_CHECKING:
    from users.models import User


def send(user: "User", first: int, titles: Sequence[str], home_url: str, stop_url: str) -> bool:
    """
    Mail the titles of the exercises that she has passed. At most once for `first`, the key of the first submission that
    passed. Return whether the mail was sent now.

    `stop_url` is the page that ends these mails; mail programs have a button that posts to it (RFC 8058).
    """
    return send_once(
        "passed",
        f"{user.pk} {first}",
        to=user.email,
        subject=f"You passed {titles[0]}" if len(titles) == 1 else f"You passed {len(titles)} exercises",
        context={"titles": titles, "home_url": home_url, "stop_url": stop_url},
        headers={"List-Unsubscribe": f"<{stop_url}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"},
    )
