"""What commands that send mail have in common."""

from jobs import Mandate
from mailers.delivery import AddressRefusedError


class MailCommand(Mandate):
    """
    A command that sends one mail. What the server takes badly today is retried for three weeks, as every failure; an
    address that takes no mail is discarded, visibly, since no retry would change it.
    """

    queue = "mailers"
    discard_on = [AddressRefusedError]
