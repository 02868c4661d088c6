"""Create an account without revealing whether the address already has one."""

from django.contrib.auth.hashers import make_password
from django.db import IntegrityError, transaction
from django.utils import timezone

from jobs import Mandate
from users.commands.send_already_registered_email import SendAlreadyRegisteredEmail
from users.models import User
from users.signals import user_signed_up


class SignUp(Mandate):
    """
    Save a new user and send `user_signed_up`; if the address is taken, mail its owner instead. Nobody can log in before
    the mailed link is followed.

    The caller cannot distinguish the two: both hash the password, try the insert and defer one mail. The insert also
    decides between two sign-ups at the same moment. Both mails are durable: no sign-up fails because Redis is away.
    """

    log_arguments = False

    email: str
    password: str

    def call(self) -> None:
        password_hash = make_password(self.password)
        try:
            with transaction.atomic():
                user = User.objects.create_with_hash(self.email, password_hash, is_unconfirmed=True)
                user_signed_up.send(sender=User, user=user)
        except IntegrityError:
            owner = User.objects.with_email(self.email).first()
            if owner is None:
                raise
            with transaction.atomic():  # as the other mail
                SendAlreadyRegisteredEmail.defer(owner, timezone.localdate())
