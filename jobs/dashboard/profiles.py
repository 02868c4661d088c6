"""The pages of the profiled attempts: their list, and the flame graph of each."""

from django.http import Http404, HttpRequest, HttpResponse
from django.utils.html import escape
from django.utils.translation import gettext as _

from jobs.attempts import profiles
from jobs.dashboard.wrappers import Screen

# A flame graph is a page with its own scripts, so it is sandboxed without an origin: it cannot reach the admin, its
# cookies or the network.
SANDBOX = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

# Without an origin there is no localStorage, in which pyinstrument's page keeps the last settings of its view.
STORAGE = """<script>
Object.defineProperty(window, "localStorage", {value: {
  getItem(name) { return name in this ? this[name] : null; }, setItem(name, value) { this[name] = value; },
}});
</script>"""


def recent(request: HttpRequest) -> Screen:
    """The profiled attempts, newest first."""
    return "profiles", {"title": _("Profiles"), "profiles": profiles.recent()}


def flame_graph(request: HttpRequest, job_id: str, attempt: int) -> HttpResponse:
    """The page that pyinstrument rendered for one attempt. Http404 if there is no profile, or it has expired."""
    page = profiles.flame_graph(job_id, attempt)
    if page is None:
        raise Http404(_("There is no profile of attempt %(n)s at job %(id)s.") % {"n": attempt, "id": job_id})
    head = f"<head><title>Attempt {attempt} at job {escape(job_id)}</title>{STORAGE}"
    return HttpResponse(page.replace("<head>", head, 1), headers={"Content-Security-Policy": SANDBOX})
