"""Rate limits of expensive requests, for each address, user or account."""

import logging
from ipaddress import ip_address

from django.http import HttpRequest
from django_ratelimit.core import get_usage

logger = logging.getLogger(__name__)


NOWHERE = "0.0.0.0"  # noqa: S104 - requests without an address share this one


def seconds_to_wait(request: HttpRequest, what: str, rate: str, key: str = "ip", account: str = "") -> int:
    """
    Count a use of `what` by the request's address, with `key="user"` by its user, or by the account that it is about.
    Return 0 if it is within the rate ("10/h"), else the seconds to wait.

    If the cache does not answer, the error is logged and the use is allowed: a rate limit must not close the site.
    """
    try:
        usage: dict[str, int] | None = get_usage(  # type: ignore[no-untyped-call]
            request, group=what, key=(lambda *_: account) if account else key, rate=rate, increment=True
        )
    except Exception:
        logger.exception("The rate limit of %s was not checked.", what)
        return 0
    if not usage or not usage["should_limit"]:
        return 0
    return max(1, usage["time_left"])


def direct_address(request: HttpRequest) -> str:
    """Return the address of the other end of the connection, for RATELIMIT_IP_META_KEY."""
    return _parsed(request.META.get("REMOTE_ADDR", "")) or NOWHERE


def proxied_address(request: HttpRequest) -> str:
    """
    Return the client's address behind a proxy, for RATELIMIT_IP_META_KEY.

    It is the last one in X-Forwarded-For, which our own proxy added; the client may have forged those before it. If
    that is no address ("unknown"), all such requests share the limit of the proxy's own.
    """
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2]
    return _parsed(forwarded) or direct_address(request)


def _parsed(text: str) -> str:
    """
    Parse an address as proxies write it: with a port, brackets, quotes or a zone, or IPv4 mapped into IPv6. Return ""
    if it is none.
    """
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)
