"""Welcome a new user by mail."""

from jobs import Mandate
from mailers import welcome
from users.links import absolute_url
from users.models import User


class SendWelcomeEmail(Mandate):
    """Send the welcome mail, once in the life of an account, however often the job runs."""

    queue = "mailers"

    user: User

    def call(self) -> None:
        welcome.send(self.user, login_url=absolute_url("users:login"))
