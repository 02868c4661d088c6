"""How often one address, or one user, may ask for something that costs us."""

import logging

from django.http import HttpRequest
from django_ratelimit.core import get_usage

logger = logging.getLogger(__name__)


def seconds_to_wait(request: HttpRequest, what: str, rate: str, key: str = "ip") -> int:
    """
    Count one more use of `what` by the request's address, or with `key="user"` by its user; 0 if that is within the
    rate ("10/h"), else the seconds until it would be.

    Lets everybody through, and says so in the log, when the cache does not answer: a limit is no reason to be closed.
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
    The client's address behind a proxy, for RATELIMIT_IP_META_KEY.

    The last one in X-Forwarded-For: our own proxy added it, and whatever stands before it is the client's word.
    """
    forwarded: str = request.META.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip()
    address: str = forwarded or request.META["REMOTE_ADDR"]
    return address
