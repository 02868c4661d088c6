"""Set a new account up."""

from jobs import Mandate
from users.commands.send_welcome_email import SendWelcomeEmail
from users.models import User


class Bootstrap(Mandate):
    """
    Everything a new account needs, as a table of contents: each step is a command.

    Runs inside the transaction of the sign-up. A step that raises undoes it, so steps that may fail are deferred.
    """

    user: User

    def call(self) -> None:
        SendWelcomeEmail.defer(self.user)

        # Add further steps here, one line each:
        # - award the first badges
        # - create tokens for the API
        # - count the signup
