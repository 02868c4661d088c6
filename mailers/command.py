"""The base class of commands that send mail."""

from jobs import Mandate
from mailers.delivery import AddressRefusedError


class MailCommand(Mandate):
    """
    A command that sends one mail. A failure of the mail server is retried for three weeks, as every failure. A mail to
    an address that is refused for good is discarded, visibly, since no retry would change it.
    """

    queue = "mailers"
    discard_on = [AddressRefusedError]
