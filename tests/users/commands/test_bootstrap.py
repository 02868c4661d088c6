from collections.abc import Callable
from typing import Any

import pytest

from users.commands.bootstrap import Bootstrap
from users.models import User


@pytest.mark.django_db(transaction=True)
def test_it_defers_the_welcome_mail_with_the_user(
    user: User, mailer_jobs: Callable[[], list[tuple[str, list[Any]]]]
) -> None:
    Bootstrap.run(user)

    assert mailer_jobs() == [("users.SendWelcomeEmail", [user])]
