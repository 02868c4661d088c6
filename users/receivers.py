"""The receivers of `user_signed_up`."""

from typing import Any

from django.dispatch import receiver

from users.commands.bootstrap import Bootstrap
from users.models import User
from users.signals import user_signed_up


@receiver(user_signed_up)
def bootstrap(*, user: User, **_: Any) -> None:
    """Set the new account up."""
    Bootstrap.run(user)
