"""The script htmx, which refreshes the pages: a file of the package django-htmx, which the extra `dashboard` brings."""

from functools import lru_cache
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from typing import Any

from django.apps import apps
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control

from jobs.dashboard.navigation import address

NAMES = ("htmx-2.min.js", "htmx.min.js")  # in later and earlier releases of the package


def element(request: HttpRequest, nonce: Any = None) -> SafeString | str:
    """
    Return the script's element: the package's own, if `django_htmx` is an installed app, else one for `script`. Return
    "" without the package: the pages work, and do not refresh.
    """
    if apps.is_installed("django_htmx"):
        from django_htmx.jinja import htmx_script

        return htmx_script(nonce=nonce)
    if (version := _version()) is None:
        return ""
    return format_html('<script src="{}?{}" defer></script>', address(request, "jobs_htmx"), version)


@login_not_required
@cache_control(public=True, max_age=31_536_000, immutable=True)
def script(request: HttpRequest) -> HttpResponse:
    """Send the package's file. Raises Http404 without the package."""
    if _version() is None:
        raise Http404(_("Install django-mandate[dashboard]."))
    folder = resources.files("django_htmx").joinpath("static", "django_htmx")
    return HttpResponse(file_in(folder).read_bytes(), content_type="text/javascript")


def file_in(folder: Traversable) -> Traversable:
    """Return htmx's file in the package's folder of static files. Raises Http404 if it has none that we know."""
    for name in NAMES:
        if (file := folder.joinpath(name)).is_file():
            return file
    raise Http404(_("This release of django-htmx has no htmx 2."))


@lru_cache
def _version() -> str | None:
    try:
        return metadata.version("django-htmx")
    except metadata.PackageNotFoundError:
        return None
