"""The header that lets pages run files of ours alone; and that no page of ours needs more."""

from html.parser import HTMLParser

import pytest
from django.http import HttpResponse
from django.test import RequestFactory

from config.csp import ContentSecurityPolicyMiddleware
from tests.jobs.conftest import InlineWorker
from tests.sample.commands.notes import Fail, WriteNote

HEADER = "Content-Security-Policy"
PAGES = [
    *("/", "/signup/", "/login/", "/no-such-page/", "/admin/", "/admin/users/user/", "/admin/users/user/add/"),
    *("/admin/jobs/dashboard/", "/admin/jobs/dashboard/jobs/queued/", "/admin/jobs/dashboard/jobs/dead/"),
    *("/admin/jobs/dashboard/workers/", "/admin/jobs/dashboard/recurring/", "/admin/jobs/dashboard/commands/"),
]


class Inline(HTMLParser):
    """Collects what the policy would not run: scripts and styles in the page itself."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        names = dict(attrs)
        is_data = tag == "script" and names.get("type") in {"application/json", "text/template"}
        if (tag == "script" and "src" not in names and not is_data) or tag == "style":
            self.found.append(tag)
        self.found += [f"{tag} {name}" for name in names if name == "style" or name.startswith("on")]
        if (names.get("href") or "").startswith("javascript:"):
            self.found.append(f"{tag} javascript:")


def inline(page):
    parser = Inline()
    parser.feed(page)
    return parser.found


@pytest.mark.django_db
@pytest.mark.parametrize("path", PAGES)
def test_every_page_has_the_header_and_nothing_that_it_forbids(path, admin_client):
    WriteNote.defer("x")
    response = admin_client.get(path, follow=True)

    policy = dict(part.split(" ", 1) for part in response[HEADER].split("; "))
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["object-src"] == policy["base-uri"] == "'none'"
    assert "script-src" not in policy
    assert inline(response.content.decode()) == []


@pytest.mark.django_db(transaction=True)
def test_the_page_of_a_dead_job_has_nothing_that_the_header_forbids(admin_client, valkey):
    job = Fail.defer("<script>alert(1)</script>")
    InlineWorker().run()
    response = admin_client.get(f"/admin/jobs/dashboard/job/{job.id}/")

    assert response.status_code == 200
    assert "&lt;script&gt;alert(1)" in response.content.decode()
    assert inline(response.content.decode()) == []


def test_what_the_header_forbids_would_be_seen():
    assert inline('<p style="x"><script>1</script><a onclick="x" href="javascript:1"><script src="x"></script>') == [
        "p style",
        "script",
        "a onclick",
        "a javascript:",
    ]


@pytest.fixture
def respond(settings):
    def respond(response, *, debug=False):
        settings.DEBUG = debug
        return ContentSecurityPolicyMiddleware(lambda request: response)(RequestFactory().get("/"))

    return respond


def test_a_views_own_header_stays(respond):
    assert respond(HttpResponse(headers={HEADER: "sandbox"}))[HEADER] == "sandbox"


@pytest.mark.parametrize(("status", "debug", "has_it"), [(500, True, False), (500, False, True), (200, True, True)])
def test_djangos_own_pages_for_errors_are_left_alone_while_developing(respond, status, debug, has_it):
    assert (HEADER in respond(HttpResponse(status=status), debug=debug)) is has_it
