"""Delivery of every mail: once, with a text and an HTML part."""

import re
from collections.abc import Mapping
from email.utils import parseaddr
from smtplib import SMTPRecipientsRefused

from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives
from django.db import transaction
from django.template.loader import render_to_string
from django.utils.crypto import salted_hmac

from mailers import addresses
from mailers.models import SentMail


class AddressRefusedError(Exception):
    """Raised when an address is invalid, or the mail server refuses it for good: a retry would change nothing."""


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
    Send the mail unless one of that kind and key was sent before. Return whether it was sent now.

    The record is written first and holds a lock until the mail is sent: a second run at the same time waits for it.
    If sending raises, the record is rolled back, and a retry sends the mail. Only a crash between the mail server's
    acceptance and the commit, or an acceptance lost on the network, can send twice; no transaction spans both. Both
    mails then have the same Message-ID, by which the receiving side can recognize the duplicate.

    Raises AddressRefusedError for an address that is invalid or refused for good, and errors of Django's mail backend.
    """
    try:
        addresses.validate(addresses.normalized(to))
    except ValidationError:
        raise AddressRefusedError("No mail can be sent to such an address. Correct it, or ask the user to.") from None
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
    Return whether an answer to RCPT refuses the mailbox for good.

    An enhanced status code (RFC 3463) decides, if there is one: 5.1 is a bad address, 5.2 a mailbox that takes no mail;
    5.7, for example, is a policy, and may be our fault. Otherwise 550, 551 and 553 refuse for good (RFC 5321, 4.2.3).
    """
    if enhanced := re.match(rb"([245])\.(\d+)\.\d+\b", text):
        return code >= 500 and enhanced[1] == b"5" and enhanced[2] in (b"1", b"2")
    return code in (550, 551, 553)


def _without(address: str, code: int, text: bytes) -> str:
    answer = re.sub(re.escape(address), "<the address>", text.decode(errors="replace"), flags=re.IGNORECASE)
    return f"The mail server refused the address: {code} {answer}. Correct it, or ask the user to."


def _message_id(kind: str, key: str, sender: str) -> str:
    domain = parseaddr(sender)[1].rpartition("@")[2]
    name = salted_hmac("mailers.delivery", f"{kind} {key}", algorithm="sha256").hexdigest()
    return f"<{name[:40]}@{domain}>"


def _message(kind: str, *, to: str, subject: str, context: Mapping[str, object]) -> EmailMultiAlternatives:
    values = {"subject": subject, **context}
    message = EmailMultiAlternatives(subject=subject, body=render_to_string(f"mailers/{kind}.txt", values), to=[to])
    message.attach_alternative(render_to_string(f"mailers/{kind}.html", values), "text/html")
    return message
