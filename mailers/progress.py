"""The weekly mail on a learner's progress."""

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
    Mail the progress of the week that began on `week`: the number of exercises tried, the titles of those passed, and
    the number ever passed. At most once a week. Return whether the mail was sent now.

    `stop_url` is the page that ends these mails; mail programs have a button that posts to it (RFC 8058).
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
