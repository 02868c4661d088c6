"""Full addresses of our pages, for mail: a job has no request from which to take the host."""

from urllib.parse import urljoin

from django.conf import settings
from django.urls import reverse


def absolute_url(page: str, **arguments: str) -> str:
    """Return the full address of a page on SITE_URL."""
    site: str = settings.SITE_URL
    return urljoin(site, reverse(page, kwargs=arguments))
