"""How every mail leaves: with a text and an HTML part, and once."""

from collections.abc import Mapping

from django.core.mail import EmailMultiAlternatives
from django.db import transaction
from django.template.loader import render_to_string

from mailers.models import SentMail


def send_once(kind: str, key: str, *, to: str, subject: str, context: Mapping[str, str]) -> bool:
    """
    Send the mail unless that kind with that key was sent before; say whether it was sent now.

    The record is written first and holds a lock until the mail is out: a second run at the same time waits for it.
    If sending raises, the record is rolled back with it and a retry sends. Only a crash between the mail server's
    yes and the commit can send twice; nothing that spans both exists.
    """
    with transaction.atomic():
        _, is_new = SentMail.objects.get_or_create(kind=kind, key=key)
        if is_new:
            _message(kind, to=to, subject=subject, context=context).send()
    return is_new


def _message(kind: str, *, to: str, subject: str, context: Mapping[str, str]) -> EmailMultiAlternatives:
    values = {"subject": subject, **context}
    message = EmailMultiAlternatives(subject=subject, body=render_to_string(f"mailers/{kind}.txt", values), to=[to])
    message.attach_alternative(render_to_string(f"mailers/{kind}.html", values), "text/html")
    return message
