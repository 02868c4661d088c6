"""A page follows a job by itself: by htmx from the web server, and by the script for server-sent events."""

import re
import time

import orjson
import pytest
from django.utils import timezone
from playwright.sync_api import expect

from jiki.commands.request_export import RequestExport
from jiki.models import DataExport
from jobs import inspection
from jobs.broker.connections import get_connection
from users.models import User


@pytest.fixture
def page(browser, site, transactional_db):
    context = browser.new_context(base_url=site)
    context.set_default_timeout(20_000)  # milliseconds
    yield context.new_page()
    context.close()


def test_the_export_page_shows_the_bar_and_then_the_download(page, site, client):
    user = User.objects.create_user("ada@jiki.example", "quilt-zebra-42")
    client.force_login(user)
    page.context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": site}])
    job = inspection.find(RequestExport.run(user).job_id)
    page.goto("/your-data/")
    state = page.locator(".jobs-live-state")
    expect(state).to_have_text(re.compile("Waiting for"))

    report = orjson.dumps([12, 40, "", time.time()])
    get_connection("default").hset(job.key, mapping={"status": "started", "report": report})
    expect(state).to_have_text("Under way")
    expect(page.locator(".jobs-live-bar")).to_have_attribute("value", "30")

    DataExport.objects.update(state="ready", ready_at=timezone.now())
    get_connection("default").hset(job.key, "status", "finished")
    expect(page.get_by_text("Download your data")).to_be_visible()


def test_sent_events_replace_the_part_and_load_the_page_anew_at_the_end(page):
    place = (
        '<div class="jobs-live" data-jobs-events="/events/">{}</div><script src="/static/jobs/progress.js"></script>'
    )
    sent = []
    is_over = False

    def serve(route):
        route.fulfill(content_type="text/html", body="all done" if is_over else place.format("waiting"))

    def send(route):
        sent.append("event: part\ndata: <b>half</b>\n\n")
        end = "event: end\ndata: refresh\n\n" if is_over else ""
        route.fulfill(content_type="text/event-stream", body=f"retry: 10\n\n{sent[-1]}{end}")

    page.route("**/followed/", serve)
    page.route("**/events/", send)
    page.goto("/followed/")
    expect(page.get_by_text("half")).to_be_visible()
    is_over = True  # the stream is opened again by itself
    expect(page.get_by_text("all done")).to_be_visible()
    assert len(sent) > 1


def test_a_page_that_is_made_within_a_second_of_the_end_is_loaded_anew_once(page):
    """As `is_settled` says: a page that is loaded anew too early would be taken for one that the end overtook."""
    place = '<div data-jobs-events="/events/">waiting</div><script src="/static/jobs/progress.js"></script>'
    loads, ended = [], []

    def serve(route):
        loads.append(route)
        is_settled = bool(ended) and time.monotonic() - ended[0] >= 0.99
        route.fulfill(content_type="text/html", body="all done" if is_settled else place)

    def send(route):
        ended.append(time.monotonic())
        route.fulfill(content_type="text/event-stream", body="event: end\ndata: refresh\n\n")

    page.route("**/followed/", serve)
    page.route("**/events/", send)
    page.goto("/followed/")
    expect(page.get_by_text("all done")).to_be_visible()
    assert len(loads) == 2
