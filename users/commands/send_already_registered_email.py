"""Mail the owner of an address that was used to sign up again."""

from datetime import date

from mailers import already_registered
from mailers.command import MailCommand
from users.links import absolute_url, login_url
from users.models import User


class SendAlreadyRegisteredEmail(MailCommand):
    """
    Mail the owner of an address that somebody tried to sign up with.

    Once a day at most, so that the signup page cannot be used to flood a stranger's inbox. Durable as the other mail of
    a sign-up is, so that a stranger cannot tell the two apart.
    """

    durable = True

    user: User
    day: date

    def call(self) -> None:
        already_registered.send(
            self.user,
            day=self.day,
            login_url=login_url(self.user),
            reset_url=absolute_url("users:password_reset"),
        )
