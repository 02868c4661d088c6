"""Make an account, without telling a stranger whether there is one already."""

import logging

from django.contrib.auth.hashers import make_password
from django.db import IntegrityError, transaction
from django.utils import timezone

from jobs import Mandate
from jobs.errors import RedisUnavailableError
from users.commands.send_already_registered_email import SendAlreadyRegisteredEmail
from users.models import User
from users.signals import user_signed_up

logger = logging.getLogger(__name__)


class SignUp(Mandate):
    """
    Save a new user and announce her with `user_signed_up`; if the address is taken, mail its owner instead.

    The caller cannot tell which it was: both hash the password, try the insert and defer one mail. The insert is
    also what decides between two signups at the same moment.
    """

    log_arguments = False

    email: str
    password: str

    def call(self) -> None:
        try:
            self._sign_up(make_password(self.password))
        except RedisUnavailableError:
            # It is raised after the commit: the account stands and she can log in, so only the mail is lost.
            logger.exception("A mail of a signup was not deferred. `SendWelcomeEmail.defer(user)` sends it later.")

    def _sign_up(self, password_hash: str) -> None:
        try:
            with transaction.atomic():
                user = User.objects.create_with_hash(self.email, password_hash)
                user_signed_up.send(sender=User, user=user)
        except IntegrityError:
            owner = User.objects.with_email(self.email).first()
            if owner is None:
                raise
            SendAlreadyRegisteredEmail.defer(owner, timezone.localdate())
