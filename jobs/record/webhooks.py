"""
Sends the webhooks of plain RQ jobs, only to hosts in JOBS["WEBHOOK_HOSTS"]: a payload names the URL, and must not
choose where this process connects. Each request is checked, redirects too.
"""

import json
from http.client import HTTPS_PORT, HTTPConnection, HTTPException
from ipaddress import ip_address
from urllib import request as urllib
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured
from rq.job import Job
from rq.webhook import Webhook

from jobs import conf
from jobs.safe_logging import safe_logger

logger = safe_logger("jobs")


class _HTTPS(HTTPConnection):
    default_port = HTTPS_PORT


_CONNECTIONS = {"http": HTTPConnection, "https": _HTTPS}


class RefusedError(URLError):
    """Raised instead of sending a request that the project does not allow. Its text names the host, never the URL."""


def send(webhook: Webhook, job: Job, exc_string: str | None = None) -> None:
    """
    Send a webhook of a job, as RQ's `Webhook.send` does. Raises nothing: a failure is logged. The log never has the
    URL, which may hold a password or a token.
    """
    headers, body = dict(webhook.headers or {}), None
    host = "?"
    try:
        host = urlsplit(webhook.url).hostname or host
        if webhook.method == "POST":
            body = json.dumps(webhook.get_payload(job, exc_string=exc_string)).encode()
            headers = {"Content-Type": "application/json", **headers}
        request = urllib.Request(webhook.url, body, headers, method=webhook.method)  # noqa: S310
        with _opener().open(request, timeout=webhook.timeout):
            pass
    except RefusedError as refused:
        logger.warning("job %s: no webhook to %s: %s", job.id, host, refused.reason)
    except HTTPError as answer:
        logger.warning("job %s: the webhook to %s failed: the answer is status %d", job.id, host, answer.code)
    except Exception as error:
        # The texts of other errors may have the URL.
        reason = error if isinstance(error, OSError | ImproperlyConfigured) else type(error).__name__
        logger.warning("job %s: the webhook to %s failed: %s", job.id, host, reason)


class _Rule(urllib.BaseHandler):
    """Checks each request before it is sent, the ones that follow a redirect too."""

    handler_order = 0  # before all others

    def default_open(self, request: urllib.Request) -> None:
        if request.has_proxy():
            return  # it was checked before the environment's proxy took the host's place
        if request.type not in _CONNECTIONS:
            raise RefusedError(f"its scheme is {request.type!r}; it must be http or https")
        try:  # as urllib will connect: a second parser might read another host
            connection = _CONNECTIONS[request.type](request.host)
            host = _normalized(connection.host)
        except (HTTPException, ValueError):
            raise RefusedError("its host or port is invalid") from None
        if "@" in request.host:
            raise RefusedError("its URL has a user or password; send it in a header")
        if not any(host == name and port in (None, connection.port) for name, port in hosts()):
            raise RefusedError(f"the host {host!r}, port {connection.port}, is not in JOBS['WEBHOOK_HOSTS']")


def _opener() -> urllib.OpenerDirector:
    """Return an opener as `urlopen` uses, with the rule, and without handlers of other schemes."""
    opener = urllib.OpenerDirector()
    for handler in (
        *(_Rule, urllib.ProxyHandler, urllib.UnknownHandler, urllib.HTTPHandler, urllib.HTTPSHandler),
        *(urllib.HTTPDefaultErrorHandler, urllib.HTTPRedirectHandler, urllib.HTTPErrorProcessor),
    ):
        opener.add_handler(handler())
    return opener


def hosts() -> list[tuple[str, int | None]]:
    """
    Return the hosts in JOBS["WEBHOOK_HOSTS"], each with the port to which it is limited, or None. They read
    `example.com`, `example.com:8443`, `127.0.0.1`, `::1` or `[::1]:8443`.

    Raises ImproperlyConfigured for any other.
    """
    listed = conf.get("WEBHOOK_HOSTS")
    return [_address(text) for text in ([listed] if isinstance(listed, str) else listed)]


def _address(text: str) -> tuple[str, int | None]:
    try:
        return str(ip_address(text.strip("[]"))), None
    except ValueError:
        pass
    try:
        parts = urlsplit(f"//{text}")
        if parts.netloc == text and parts.hostname and "@" not in text:
            return _normalized(parts.hostname), parts.port
    except ValueError:
        pass
    raise ImproperlyConfigured(
        f"JOBS['WEBHOOK_HOSTS'] has {text!r}; it must be a host or an address, such as 'example.com' or "
        "'example.com:8443', without scheme and path."
    )


def _normalized(host: str) -> str:
    """Return one spelling of a host: as the resolver is asked for it, in lower case, without the dot at its end."""
    try:
        return str(ip_address(host))
    except ValueError:
        return host.rstrip(".").encode("idna").decode().lower()
