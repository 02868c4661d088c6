"""Full addresses of our pages, for mail: a job has no request from which to take the host."""

from typing import TYPE_CHECKING
from urllib.parse import urlencode, urljoin

from django.conf import settings
from django.core import signing
from django.urls import reverse

if TYPE_CHECKING:
    from users.models import User

CONFIRM = "users.confirm"  # salt: other tokens are not valid here


def absolute_url(page: str, **arguments: str) -> str:
    """Return the full address of a page on SITE_URL."""
    site: str = settings.SITE_URL
    return urljoin(site, reverse(page, kwargs=arguments))


def login_url(user: "User") -> str:
    """Return the full address of the login. For an unconfirmed user it has a token: to log in there confirms."""
    url = absolute_url("users:login")
    if not user.is_unconfirmed:
        return url
    return f"{url}?{urlencode({'confirm': signing.dumps([user.pk, user.email], salt=CONFIRM)})}"


def confirms(token: str, user: "User") -> bool:
    """Return whether the token was mailed to this user, at the address that the user has now."""
    try:
        return bool(signing.loads(token, salt=CONFIRM) == [user.pk, user.email])
    except signing.BadSignature:
        return False
