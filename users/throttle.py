"""Rate limits of expensive requests, for each address or user."""

import logging

from django.http import HttpRequest
from django_ratelimit.core import get_usage

logger = logging.getLogger(__name__)


def seconds_to_wait(request: HttpRequest, what: str, rate: str, key: str = "ip") -> int:
    """
    Count a use of `what` by the request's address, or with `key="user"` by its user. Return 0 if it is within the rate
    ("10/h"), else the seconds to wait.

    If the cache does not answer, the error is logged and the use is allowed: a rate limit must not close the site.
    """
    try:
        usage: dict[str, int] | None = get_usage(  # type: ignore[no-untyped-call]
            request, group=what, key=key, rate=rate, increment=True
        )
    except Exception:
        logger.exception("The rate limit of %s was not checked.", what)
        return 0
    if not usage or not usage["should_limit"]:
        return 0
    return max(1, usage["time_left"])


def proxied_address(request: HttpRequest) -> str:
    """
    Return the client's address behind a proxy, for RATELIMIT_IP_META_KEY.

    It is the last one in X-Forwarded-For, which our own proxy added; the client may have forged those before it.
    """
    forwarded: str = request.META.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip()
    address: str = forwarded or request.META["REMOTE_ADDR"]
    return address
