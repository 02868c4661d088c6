"""
Django 6's ContentSecurityPolicyMiddleware for Django 5.2: the header that SECURE_CSP describes.

Delete it when support for Django 5.2 ends.
"""

from collections.abc import Callable, Collection, Mapping

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

HEADER = "Content-Security-Policy"
DEBUG_PAGES = {404, 500}  # with DEBUG, Django's own pages for these contain inline scripts and styles


class ContentSecurityPolicyMiddleware:
    """Sets the header unless the view has set it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response
        self._policy = policy(settings.SECURE_CSP)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        if HEADER not in response and not (settings.DEBUG and response.status_code in DEBUG_PAGES):
            response[HEADER] = self._policy
        return response


def policy(directives: Mapping[str, Collection[str]]) -> str:
    """Return the header's value: each directive with its sources."""
    return "; ".join(" ".join((name, *sources)) for name, sources in directives.items())
