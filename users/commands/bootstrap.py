"""Set a new account up."""

from jobs import Mandate
from users.commands.send_welcome_email import SendWelcomeEmail
from users.models import User


class Bootstrap(Mandate):
    """
    Everything a new account needs, as a table of contents: each step is a command of its own.

    Run inside the transaction of the signup: a step that raises undoes it, so what may fail is deferred.
    """

    user: User

    def call(self) -> None:
        SendWelcomeEmail.defer(self.user)

        # Further steps go here, a line each:
        # - award the first badges
        # - create tokens for the API
        # - count the signup
