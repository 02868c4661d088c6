"""
A browser, a web server in a thread, and a worker process, each started once for this folder's tests.

Every page is served under a strict policy, and whatever the browser complains about on any page fails the test.
"""

import shutil

import pytest
from django.conf import settings
from django.core.cache import cache
from django.test import override_settings
from playwright.sync_api import expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

from tests.browser.visitor import Visitor
from tests.jiki.service import ContentService
from tests.processes import WorkerProcess

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
MISSING = "There is no Chromium. `make chromium` installs it for root; else: sudo apt-get install chromium"

SERVED = ("critical", "default", "mailers", "background")  # `low` is left alone: its jobs stay queued
THREADS = 3


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent.name == "browser":
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.processes)


@pytest.fixture(scope="package")
def browser():
    """A Chromium. Its driver runs an event loop in this thread, so it is gone when other folders' tests run."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(MISSING)
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # that loop is no reason to refuse the database
        expect.set_options(timeout=20_000)  # milliseconds
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def site(browser, django_db_setup, django_db_blocker):
    """The address of the web server: threads of this process, on the same database and Valkey as the worker."""
    middleware = ["tests.browser.policy.Policy", *settings.MIDDLEWARE]
    with (
        django_db_blocker.unblock(),
        override_settings(MIDDLEWARE=middleware, ALLOWED_HOSTS=["127.0.0.1", "testserver"]),
    ):
        server = LiveServer("127.0.0.1")
        yield server.url
        server.stop()


@pytest.fixture(scope="package")
def content():
    """The content service of the worker."""
    service = ContentService()
    yield service
    service.close()


@pytest.fixture(scope="package")
def running_worker(browser, django_db_setup, valkey_server, content, tmp_path_factory):
    """A worker on all queues but `low`. The mails that it sends lie in `mail`."""
    valkey_server.clean()  # the test before may have left it dead
    folder = tmp_path_factory.mktemp("browser")
    env = {"EMAIL_URL": f"filemail:///{folder}/mail", "EXERCISES_API_URL": content.url, "no_proxy": "127.0.0.1"}
    worker = WorkerProcess(*SERVED, name="learners", log=folder / "worker.log", concurrency=THREADS, env=env)
    worker.mail = folder / "mail"
    yield worker
    worker.stop()


@pytest.fixture(autouse=True)
def clean_slate(valkey_server, running_worker):
    """As elsewhere, but the worker's own records stay: it goes on from test to test."""
    with valkey_server.client() as client:
        keys = [key for key in client.scan_iter(count=1_000) if b"worker" not in key]
        if keys:
            client.delete(*keys)
    cache.clear()


@pytest.fixture(params=["script", "no script"])
def scripted(request):
    """Whether the browser runs scripts: each test that asks for this is run with and without."""
    return request.param == "script"


@pytest.fixture
def visitor(browser, site, transactional_db, client, admin_user):
    """An admin at her browser, without scripts or with other sizes and colours by `visitor(scripted=False)`."""
    client.force_login(admin_user)
    visitors = []

    def sit_down(**options):
        visitors.append(Visitor(browser, site, client.cookies["sessionid"].value, **options))
        return visitors[-1]

    yield sit_down
    for each in visitors:
        each.leave()
