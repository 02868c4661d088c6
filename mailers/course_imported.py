"""The mail on the import of a course."""

from typing import TYPE_CHECKING

from mailers.delivery import send_once

if TYPE_CHECKING:
    from users.models import User


def send(
    user: "User", slug: str, title: str, *, flow_id: str, has_succeeded: bool, course_url: str, admin_url: str
) -> bool:
    """
    Mail the author that the course is published, or that its import needs a look. At most once each for a flow. Return
    whether the mail was sent now.
    """
    return send_once(
        "course_imported",
        f"{user.pk} {slug} {flow_id} {has_succeeded}",
        to=user.email,
        subject=f"{title} is published" if has_succeeded else f"{title} could not be imported",
        context={"title": title, "has_succeeded": has_succeeded, "url": course_url if has_succeeded else admin_url},
    )
