"""Times and recurrences as a reader says them: in a zone of her choice, and in words."""

import re

import pytest
from django.urls import reverse

from jobs import scheduler
from jobs.dashboard.cron import in_words
from jobs.inspection import find
from jobs.scheduler import Entry
from tests.jobs.dashboard.pages import OVERVIEW, staff, text, url
from tests.sample.commands.notes import Fail, WriteNote

WORDS = {
    "* * * * *": "Every minute",
    "*/15 * * * *": "Every 15 minutes",
    "17 * * * *": "At 17 minutes past the hour",
    "30 4 * * *": "At 04:30",
    "0 9,17 * * 1-5": "At 09:00 and 17:00, Monday through Friday",
    "0 0 * * 7": "At 00:00, only on Sunday",
    "@daily": "At 00:00",
    "0 3 1 * 1": "At 03:00, on day 1 of the month, or on Monday",
    "0 3 * 13 *": "",
    "0 0 * * * 30": "",
    "nonsense": "",
}


@pytest.mark.parametrize("expression", WORDS)
def test_a_cron_expression_in_words(expression):
    assert in_words(expression) == WORDS[expression]


pages = pytest.mark.django_db(transaction=True)


@pages
def test_an_entry_shows_words_its_next_times_and_its_runs_as_signs(admin_client, worker):
    scheduler.add(Entry("nightly", Fail, cron="30 4 * * *", timezone="UTC"))
    scheduler.run_now("nightly")
    worker.run()
    page = text(admin_client, url("recurring"))
    assert "At 04:30" in page
    assert page.count("04:30:00</time>") == 1
    (address,) = re.findall(r'href="(\?cursor=&amp;times=[^"]+)"', page)
    assert text(admin_client, url("recurring") + address.replace("&amp;", "&")).count("04:30:00</time>") == 5
    assert '<a class="jobs-tick jobs-state-dead"' in page
    assert 'aria-label="dead, ' in page
    assert 'aria-label="Pause nightly"' in page


@pages
def test_the_zone_is_the_readers_choice(admin_client):
    job = WriteNote.defer("x", wait=60)
    response = admin_client.post(url("zone"), {"zone": "Asia/Tokyo", "next": url("job", job.id)})
    assert response.url == url("job", job.id)
    page = text(admin_client, response.url)
    assert "Asia/Tokyo" in page
    hour = (find(job.id).connection.zscore("rq:scheduled:default", job.id) // 3_600 + 9) % 24
    assert f"T{hour:02.0f}:" in page.partition('name="at"')[2][:100]
    admin_client.post(url("zone"), {"zone": ""})
    assert "Asia/Tokyo" not in text(admin_client, url("job", job.id))


@pages
def test_a_time_that_is_posted_is_in_that_zone(admin_client):
    job = WriteNote.defer("x", wait=60)
    admin_client.post(url("zone"), {"zone": "Asia/Tokyo"})
    admin_client.post(url("job_reschedule", job.id), {"at": "2030-01-02T09:00:00"})
    assert job.connection.zscore("rq:scheduled:default", job.id) == 1_893_542_400  # midnight in UTC


@pages
def test_an_edited_job_does_not_take_the_zone_of_who_edits_it(admin_client):
    job = WriteNote.defer("x")
    admin_client.post(url("zone"), {"zone": "Asia/Tokyo"})
    done = admin_client.post(url("job_edited", job.id), {"field-text": "y"})
    made = find(done.url.rstrip("/").rpartition("/")[2])
    assert made.connection.hget(made.key, "context") is None


@pages
@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "x" * 10_000])
def test_an_unknown_zone_is_refused(zone, admin_client):
    page = admin_client.post(url("zone"), {"zone": zone}, follow=True)
    assert "Unknown time zone" in page.content.decode()
    admin_client.cookies["jobs_zone"] = "../../etc/passwd"
    assert admin_client.get(reverse(OVERVIEW)).status_code == 200


@pages
def test_the_zone_is_for_who_may_view(client):
    assert client.post(url("zone"), {"zone": "UTC"}).status_code == 302  # to the login
    client.force_login(staff())
    assert client.post(url("zone"), {"zone": "UTC"}).status_code == 404
    client.force_login(staff("view"))
    assert client.get(url("zone")).status_code == 405
    assert client.post(url("zone"), {"zone": "UTC"}).status_code == 302
