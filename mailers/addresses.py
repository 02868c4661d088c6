"""Email addresses: how they are normalized, and which ones mail can be sent to."""

import unicodedata

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils.encoding import punycode

LONGEST = 254  # characters (RFC 5321)
_INVALID = "Enter a valid email address."


def normalized(address: str) -> str:
    """
    Return the address as it is stored and compared: without spaces around it, Unicode-normalized (NFKC), its domain in
    lower case and in ASCII (IDNA). An address that is too long, or has no such form, is left for `validate` to refuse.
    """
    if len(address) > LONGEST:  # some of the steps are slow for long texts
        return address
    local, at, domain = unicodedata.normalize("NFKC", address).strip().rpartition("@")
    try:
        return f"{local}{at}{punycode(domain).lower()}"
    except UnicodeError:
        return f"{local}{at}{domain}"


def validate(address: str) -> None:
    """Raise ValidationError unless a mail can be sent to the normalized address."""
    validate_email(address)
    if len(address) > LONGEST or not (address.isascii() and address.isprintable()) or address.endswith("]"):
        raise ValidationError(_INVALID, code="invalid")
