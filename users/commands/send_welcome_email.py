"""Welcome a new user by mail."""

from mailers import welcome
from mailers.command import MailCommand
from users.links import login_url
from users.models import User


class SendWelcomeEmail(MailCommand):
    """
    Send the welcome mail, once in the life of an account, however often the job runs.

    Durable: an account that is saved gets its mail, whatever happens to Redis.
    """

    durable = True

    user: User

    def call(self) -> None:
        welcome.send(self.user, login_url=login_url(self.user))
