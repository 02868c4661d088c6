"""Addresses of our pages, for mail: a job has no request to take the host from."""

from urllib.parse import urljoin

from django.conf import settings
from django.urls import reverse


def absolute_url(page: str, **arguments: str) -> str:
    """The full address of a page, on the SITE_URL of this environment."""
    site: str = settings.SITE_URL
    return urljoin(site, reverse(page, kwargs=arguments))
