"""Mail a link to choose a new password."""

from datetime import datetime

from django.contrib.auth.tokens import default_token_generator
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from mailers import password_reset
from mailers.command import MailCommand
from users.links import absolute_url
from users.models import User


class SendPasswordResetEmail(MailCommand):
    """
    Mail the link, once for each request.

    The token of the link is made here, not by the caller: it opens the account, so it must not be in a payload.
    """

    user: User
    requested_at: datetime

    def call(self) -> None:
        reset_url = absolute_url(
            "users:password_reset_confirm",
            uidb64=urlsafe_base64_encode(force_bytes(self.user.pk)),
            token=default_token_generator.make_token(self.user),
        )
        password_reset.send(self.user, requested_at=self.requested_at, reset_url=reset_url)
