"""The script htmx, which refreshes the pages: a file of the package django-htmx, which the extra `dashboard` brings."""

from importlib import metadata, resources
from importlib.util import find_spec

from django.apps import apps
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.templatetags.static import static
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control

from jobs.dashboard.navigation import address

FILE = "django_htmx/htmx-2.min.js"


def source(request: HttpRequest) -> str:
    """
    Return the address of the script: among the static files, if the project has the app `django_htmx`, else our own.
    Return "" without the package: the pages work, and do not refresh.
    """
    if apps.is_installed("django_htmx"):
        return static(FILE)
    if find_spec("django_htmx") is None:
        return ""
    return f"{address(request, 'jobs_htmx')}?{metadata.version('django-htmx')}"


@login_not_required
@cache_control(public=True, max_age=31_536_000, immutable=True)
def script(request: HttpRequest) -> HttpResponse:
    """Send the package's file. Raises Http404 without the package."""
    if find_spec("django_htmx") is None:
        raise Http404(_("Install django-mandate[dashboard]."))
    file = resources.files("django_htmx").joinpath("static", FILE)
    return HttpResponse(file.read_bytes(), content_type="text/javascript")
