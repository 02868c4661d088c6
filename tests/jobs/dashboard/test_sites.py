"""The dashboard on another admin site, below a path, behind Django's LoginRequiredMiddleware."""

import re
from datetime import UTC, datetime
from math import inf

import pytest
from django.conf import settings as project
from django.contrib.admin.utils import quote, unquote
from django.urls import resolve, set_script_prefix

from jobs.dashboard import htmx
from jobs.dashboard.job import _url
from jobs.job import JobState
from tests.sample.commands.notes import Fail, WriteNote

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    "page", ["", *(f"jobs/{state}/" for state in JobState), "recurring/", "workers/", "commands/", "profiles/", "job/"]
)
def test_every_link_stays_on_the_admin_site_that_has_the_dashboard(page, admin_client, settings):
    settings.ROOT_URLCONF = "tests.two_admins"
    job = WriteNote.defer("x", wait=60)
    answer = admin_client.get(f"/ops/jobs/dashboard/{page}{job.id + '/' if page == 'job/' else ''}")
    links = re.findall(r'(?:href|action|formaction)="(/[^"]*)"', answer.content.decode())

    assert answer.status_code == 200
    assert links
    assert [link for link in links if not link.startswith(("/ops/", "/static/")) and link != "/"] == []


def test_a_change_leads_back_to_that_admin_site(admin_client, settings):
    settings.ROOT_URLCONF = "tests.two_admins"
    job = WriteNote.defer("x", wait=60)

    assert admin_client.post(f"/ops/jobs/dashboard/job/{job.id}/run_now/").url == "/ops/jobs/dashboard/"


def test_a_record_that_only_another_admin_site_has_is_no_link(settings, rf):
    settings.ROOT_URLCONF = "tests.two_admins"
    request, value = rf.get("/"), {"$record": "users.User:7"}
    request.current_app = "operations"
    assert _url(request, "user", value) == ""
    request.current_app = "admin"
    assert _url(request, "user", value) == "/admin/users/user/7/change/"


def test_the_link_to_a_record_has_its_key_as_the_admin_writes_it(rf):
    address = _url(rf.get("/"), "user", {"$record": "users.User:a_5Fb/c"})

    assert address == f"/admin/users/user/{quote('a_5Fb/c')}/change/"
    assert unquote(resolve(address).kwargs["object_id"]) == "a_5Fb/c"


def test_the_way_back_keeps_its_filters_below_a_path(admin_client, settings):
    settings.FORCE_SCRIPT_NAME = "/app"
    job = Fail.defer()
    set_script_prefix("/app/")  # as handlers do, but the test client's
    listing = "/app/admin/jobs/dashboard/jobs/dead/?queue=default&text=x"
    try:
        page = admin_client.get(
            f"/admin/jobs/dashboard/job/{job.id}/", headers={"referer": f"http://testserver{listing}"}
        )
    finally:
        set_script_prefix("/")

    assert page.context["list"] == listing


@pytest.mark.parametrize("path", ["metrics/", "api/overview/", "api/jobs/dead/"])
def test_a_token_is_enough_where_django_asks_for_a_login(path, client, settings, monkeypatch):
    monkeypatch.setattr(
        "jobs.inspection.version._published_at", inf
    )  # else a thread writes it, perhaps into the next test
    settings.MIDDLEWARE = [*project.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    settings.JOBS = {**settings.JOBS, "API_TOKENS": ["right"]}
    address = f"/admin/jobs/dashboard/{path}"

    assert client.get(address, headers={"Authorization": "Bearer right"}).status_code == 200
    assert client.get(address, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.get(address).status_code == 404
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(("zone", "hour"), [("Europe/Berlin", 9), ("UTC", 10)])
def test_a_job_is_rescheduled_without_time_zone_support(zone, hour, admin_client, settings):
    settings.TIME_ZONE = zone
    settings.USE_TZ = False
    job = WriteNote.defer("x", wait=60)
    admin_client.post(f"/admin/jobs/dashboard/job/{job.id}/reschedule/", {"at": "2030-03-01T10:00"})

    due = job.connection.zscore("rq:scheduled:default", job.id)
    assert datetime.fromtimestamp(due, UTC) == datetime(2030, 3, 1, hour, tzinfo=UTC)


@pytest.mark.parametrize("name", ["htmx-2.min.js", "htmx.min.js"])
def test_htmx_is_found_in_each_release_of_its_package(name, tmp_path):
    (tmp_path / name).write_bytes(b"htmx")

    assert htmx.file_in(tmp_path).read_bytes() == b"htmx"


def test_a_project_without_the_app_of_htmx_gets_it_from_the_dashboard(admin_client, monkeypatch):
    page = admin_client.get("/admin/jobs/dashboard/workers/").content.decode()
    assert '<script src="/static/django_htmx/htmx' in page
    monkeypatch.setattr(htmx.apps, "is_installed", lambda name: False)
    page = admin_client.get("/admin/jobs/dashboard/workers/").content.decode()
    (address,) = re.findall(r'<script src="(/admin/jobs/dashboard/htmx.js[^"]+)" defer>', page)

    assert b"htmx" in admin_client.get(address).content
