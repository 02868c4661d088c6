"""The mail that tells a learner once a week what she has done."""

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from mailers.delivery import send_once

if TYPE_CHECKING:
    from users.models import User


def send(
    user: "User", week: date, tried: int, passed: Sequence[str], passed_ever: int, home_url: str, stop_url: str
) -> bool:
    """
    Tell of the week that began on that day: how many exercises were tried, the titles of those that were passed, how
    many there are in all. Once a week at most; say whether the mail was sent now.

    `stop_url` is the page that ends these mails; mail programs have a button of their own that posts to it (RFC 8058).
    """
    return send_once(
        "progress",
        f"{user.pk} {week.isoformat()}",
        to=user.email,
        subject="Your week on Jiki",
        context={
            "tried": tried,
            "passed": passed,
            "passed_ever": passed_ever,
            "home_url": home_url,
            "stop_url": stop_url,
        },
        headers={"List-Unsubscribe": f"<{stop_url}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"},
    )
