"""How every mail leaves: with a text and an HTML part, and once."""

import re
from collections.abc import Mapping
from email.utils import parseaddr
from smtplib import SMTPRecipientsRefused

from django.core.mail import EmailMultiAlternatives
from django.db import transaction
from django.template.loader import render_to_string
from django.utils.crypto import salted_hmac

from mailers.models import SentMail


class AddressRefusedError(Exception):
    """Raised when the mail server says for good that an address takes no mail: to try again would change nothing."""


def send_once(
    kind: str,
    key: str,
    *,
    to: str,
    subject: str,
    context: Mapping[str, object],
    headers: Mapping[str, str] | None = None,
) -> bool:
    """
    Send the mail unless that kind with that key was sent before; say whether it was sent now.

    The record is written first and holds a lock until the mail is out: a second run at the same time waits for it.
    If sending raises, the record is rolled back with it and a retry sends. Only a crash between the mail server's
    yes and the commit, or a yes that is lost on its way, can send twice; nothing that spans both exists. Then both
    have one Message-ID, by which the receiving side can tell.

    Raises AddressRefusedError for an address that takes no mail, and what Django's mail backend raises.
    """
    with transaction.atomic():
        _, is_new = SentMail.objects.get_or_create(kind=kind, key=key)
        if is_new:
            message = _message(kind, to=to, subject=subject, context=context)
            message.extra_headers |= {"Message-ID": _message_id(kind, key, message.from_email), **(headers or {})}
            try:
                message.send()
            except SMTPRecipientsRefused as error:
                (answer,) = error.recipients.values()
                if is_for_good(*answer):
                    raise AddressRefusedError(_without(to, *answer)) from None
                raise
    return is_new


def is_for_good(code: int, text: bytes) -> bool:
    """
    Whether an answer to RCPT says that there is no such mailbox, and never will be.

    Where it has an enhanced status code (RFC 3463), that decides: 5.1 is a bad address, 5.2 a mailbox that takes
    nothing; 5.7, say, is a policy, and may be a fault of ours. Else 550, 551 and 553 do (RFC 5321, 4.2.3).
    """
    if enhanced := re.match(rb"([245])\.(\d+)\.\d+\b", text):
        return code >= 500 and enhanced[1] == b"5" and enhanced[2] in (b"1", b"2")
    return code in (550, 551, 553)


def _without(address: str, code: int, text: bytes) -> str:
    said = re.sub(re.escape(address), "<the address>", text.decode(errors="replace"), flags=re.IGNORECASE)
    return f"The mail server refused the address: {code} {said}. Correct it, or let the user do so."


def _message_id(kind: str, key: str, sender: str) -> str:
    domain = parseaddr(sender)[1].rpartition("@")[2]
    name = salted_hmac("mailers.delivery", f"{kind} {key}", algorithm="sha256").hexdigest()
    return f"<{name[:40]}@{domain}>"


def _message(kind: str, *, to: str, subject: str, context: Mapping[str, object]) -> EmailMultiAlternatives:
    values = {"subject": subject, **context}
    message = EmailMultiAlternatives(subject=subject, body=render_to_string(f"mailers/{kind}.txt", values), to=[to])
    message.attach_alternative(render_to_string(f"mailers/{kind}.html", values), "text/html")
    return message
