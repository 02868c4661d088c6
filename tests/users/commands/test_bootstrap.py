from jobs.testing import Kit
from users.commands.bootstrap import Bootstrap
from users.commands.send_welcome_email import SendWelcomeEmail
from users.models import User


def test_it_defers_the_welcome_mail_with_the_user(user: User, jobs: Kit) -> None:
    with jobs.assert_enqueued_with(SendWelcomeEmail, args=(user,)):
        Bootstrap.run(user)
