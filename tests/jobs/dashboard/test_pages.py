"""The dashboard through Django's client: what each page shows."""

import json
import types
from datetime import UTC, datetime, timedelta
from urllib import parse

import pytest
from django.contrib.admin import AdminSite
from django.contrib.admin.utils import unquote
from django.test import override_settings
from django.urls import path, resolve, reverse

from config.queues import rq_queues
from jobs import queues
from jobs.broker.connections import get_connection
from jobs.dashboard.job import _url
from jobs.job import JobState
from tests.jobs.dashboard.pages import OVERVIEW, text, url
from tests.sample.commands.notes import Fail, KeepSecret, ShoutNote, WriteNote
from tests.sample.commands.trouble import Ruled, TroubleTwice
from tests.sample.models import Folder, Note
from users.commands.send_welcome_email import SendWelcomeEmail

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_overview_shows_queues_in_priority_order_and_what_is_wrong(admin_client):
    WriteNote.defer_many([(str(n),) for n in range(1_234)])
    ShoutNote.defer(Note.objects.create())
    queues.pause("default")
    page = admin_client.get(reverse(OVERVIEW))

    assert [(row.name, row.length) for row in page.context["rows"]] == [
        ("critical", 1),
        ("default", 1_234),
        ("mailers", 0),
        ("background", 0),
        ("low", 0),
    ]
    assert "1,234" in page.content.decode()
    assert "No worker is running: queued jobs are not run, and due jobs are not enqueued." in page.context["warnings"]
    assert "The queue default is paused, and 1,234 jobs wait in it." in page.context["warnings"]


@pytest.mark.parametrize("span", ["hour", "day", "3days", "nonsense"])
def test_the_chart_has_its_numbers_in_a_table(span, admin_client, worker):
    WriteNote.defer("x")
    Fail.defer()
    worker.run()
    page = admin_client.get(reverse(OVERVIEW), {"span": span})
    assert (page.context["processed"], page.context["failed"]) == (2, 1)
    assert '<rect class="failed"' in page.content.decode()
    assert f"<title>Attempts per {'hour' if 'day' in span else 'minute'}</title>" in page.content.decode()


@pytest.mark.parametrize("name", ["overview", "jobs", "job", "workers", "recurring", "limits", "commands"])
def test_without_redis_every_page_says_so(name, admin_client, tmp_path):
    address = {
        "overview": reverse(OVERVIEW),
        "jobs": url("list", "dead"),
        "job": url("job", "x"),
    }.get(name) or url(name)
    with override_settings(RQ_QUEUES=rq_queues(f"unix://{tmp_path}/none.sock")):
        assert "none.sock" in text(admin_client, address, status=503)


@pytest.mark.parametrize("state", JobState)
def test_every_state_has_its_list(state, admin_client):
    assert "No job here." in text(admin_client, url("list", state.value))


def test_a_queue_has_its_page(admin_client):
    jobs = WriteNote.defer_many([(str(n),) for n in range(30)], queue="low")
    queues.pause("low")
    page = admin_client.get(url("queue", "low"))
    assert [row.id for row, _ in page.context["rows"]] == [job.id for job in jobs[:25]]
    assert "paused" in page.content.decode()
    second = admin_client.get(f"{url('queue', 'low')}?{page.context['next']}")
    assert [row.id for row, _ in second.context["rows"]] == [job.id for job in jobs[25:]]
    assert not second.context["next"]
    newest = admin_client.get(url("queue", "low") + "?order=newest")
    assert newest.context["rows"][0][0].id == jobs[-1].id
    assert admin_client.get(url("queue", "urgent")).status_code == 404


def test_a_full_last_page_leads_nowhere(admin_client):
    WriteNote.defer_many([("x",)] * 25)
    assert "Next page" not in text(admin_client, url("list", "queued"))


def test_a_job_is_found_by_its_id(admin_client):
    jobs = WriteNote.defer_many([(str(n),) for n in range(3)], wait=60)
    page = admin_client.get(url("list", "scheduled"), {"id": f" {jobs[1].id} "})
    assert [row.id for row, _ in page.context["rows"]] == [jobs[1].id]
    assert page.context["rows"][0][0].at > datetime.now(UTC) + timedelta(seconds=30)
    for address in (f"queued/?id={jobs[1].id}", "scheduled/?id=nobody", f"scheduled/?queue=low&id={jobs[1].id}"):
        assert "No job here." in text(admin_client, reverse(OVERVIEW) + "jobs/" + address)


def test_a_search_says_how_far_it_looked_and_goes_on(admin_client, monkeypatch):
    monkeypatch.setattr("jobs.inspection.query.SEARCHED", 100)
    monkeypatch.setattr("jobs.inspection.query.SEARCHED_AT_ONCE", 50)
    WriteNote.defer_many([(str(n),) for n in range(150)])
    page = admin_client.get(url("list", "queued"), {"text": "('149')", "queue": "default"})
    told = "None found. 100 were searched for this page, 100 of 150 so far."
    assert told in page.content.decode()
    assert "Search on" in page.content.decode()
    second = admin_client.get(f"{url('list', 'queued')}?{page.context['next']}")
    assert [row.description for row, _ in second.context["rows"]] == ["sample.WriteNote('149')"]
    assert second.context["filters"] == {"text": "('149')", "queue": "default"}
    assert "Search on" not in second.content.decode()


def test_what_waits_says_for_what(admin_client, worker):
    dead = Fail.defer()
    other = [WriteNote.defer("x", wait=60) for _ in range(4)]
    waiting = WriteNote.defer("after", prereq_jobs=[dead, *other])
    worker.run()
    page = admin_client.get(url("list", "blocked"))
    ((row, (some, count)),) = page.context["rows"]
    assert (row.id, len(some), count) == (waiting.id, 3, 5)
    assert url("job", some[0]) in page.content.decode()
    assert "of 5" in page.content.decode()


def test_what_runs_says_where_and_since_when(admin_client, worker):
    job = WriteNote.defer("x")
    worker.claim()
    page = text(admin_client, url("list", "running"))
    assert url("worker", "inline") in page
    assert url("job", job.id) in page


def test_groups_are_counted_among_those_that_were_looked_at(admin_client, worker, monkeypatch):
    monkeypatch.setattr("jobs.dashboard.lists.GROUPED", 20)
    Fail.defer_many([(f"message {n}",) for n in range(30)])
    worker.run()
    page = text(admin_client, url("list", "dead") + "?group=error&queue=default")
    assert "20 jobs; 20 of 30 searched." in page
    assert "?queue=default&amp;error=RuntimeError" in page


def test_lists_filter_group_and_page(admin_client, worker):
    Fail.defer_many([(f"message {n}",) for n in range(30)])
    worker.run()
    page = admin_client.get(url("list", "dead"))
    assert len(page.context["page"].rows) == 25
    second = admin_client.get(f"{url('list', 'dead')}?{page.context['next']}")
    assert len(second.context["page"].rows) == 5
    assert "message 7" in text(admin_client, url("list", "dead") + "?text=message+7")
    assert "No job here." in text(admin_client, url("list", "dead") + "?command=sample.WriteNote")
    for group in ("error", "command"):
        grouped = admin_client.get(url("list", "dead"), {"group": group})
        ((key, number, _),) = grouped.context["grouped"]
        assert (key, number) == ({"error": "RuntimeError", "command": "sample.Fail"}[group], 30)


@pytest.mark.parametrize(("state", "first"), [("queued", "oldest"), ("scheduled", "oldest"), ("dead", "newest")])
def test_the_order_that_is_shown_is_the_order_that_is(state, first, admin_client):
    assert f'<option value="{first}" selected>' in text(admin_client, url("list", state))
    other = "newest" if first == "oldest" else "oldest"
    assert f'<option value="{other}" selected>' in text(admin_client, url("list", state) + f"?order={other}")


@pytest.mark.parametrize("address", ["jobs/nonsense/", "jobs/dead/?queue=urgent", "jobs/dead/?cursor=!", "job/x/"])
def test_what_there_is_not_is_not_found(address, admin_client):
    assert admin_client.get(reverse(OVERVIEW) + address).status_code == 404


def test_a_job_shows_all_there_is(admin_client, worker):
    note = Note.objects.create(text="x")
    job = ShoutNote.defer(note, times=3)
    dead = Fail.defer("bad luck")
    waiting = WriteNote.defer("after", prereq_jobs=[dead])
    worker.run()
    page = text(admin_client, url("job", dead.id))
    assert "RuntimeError: bad luck" in page
    assert "Traceback (most recent call last)" in page
    assert waiting.id in page
    assert dead.id in text(admin_client, url("job", waiting.id))
    assert f"sample.Note:{note.pk}" in text(admin_client, url("job", job.id))


@pytest.mark.parametrize("key", ["a_5Fb", "a/b", "50%", "x y", "ü", 'a?b#c"', "add"])
def test_the_link_to_a_record_leads_to_it_whatever_its_key(rf, key):
    site = AdminSite(name="admin")
    site.register(Folder)
    urls = types.ModuleType("urls_of_folders")
    urls.urlpatterns = [path("admin/", site.urls)]
    request = rf.get("/")
    with override_settings(ROOT_URLCONF=urls):
        link = _url(request, "folder", {"$record": f"sample.Folder:{key}"})
        assert unquote(resolve(parse.unquote(link)).kwargs["object_id"]) == key
        assert (
            _url(request, "line", {"$record": 'sample.Line:["a", "1"]'}) == ""
        )  # the admin has no page for a composite key


def test_a_user_argument_links_to_its_page_and_private_ones_are_hidden(admin_client, admin_user):
    job = SendWelcomeEmail.defer(admin_user)
    assert reverse("admin:users_user_change", args=[admin_user.pk]) in text(admin_client, url("job", job.id))
    secret = KeepSecret.defer("hunter2")
    page = text(admin_client, url("job", secret.id))
    assert "not shown" in page
    assert "hunter2" not in page.partition("Payload")[0]


def test_named_fields_are_filtered(admin_client, settings):
    settings.JOBS = {**settings.JOBS, "FILTERED_FIELDS": ["text"]}
    page = text(admin_client, url("job", WriteNote.defer("hunter2").id))
    assert "[filtered]" in page


def test_the_life_of_a_job_is_one_list(admin_client, worker):
    job = TroubleTwice.defer("flaky", 1)
    worker.run()
    worker.hurry().run()
    names = [(step.name, step.is_attempt) for step in admin_client.get(url("job", job.id)).context["timeline"]]
    assert names == [("queued", False), ("failed", True), ("retried", False), ("finished", True)]
    page = text(admin_client, url("job", job.id))
    assert page.count("Traceback (most recent call last)") == 1
    assert 'id="jobs-trace"' in page
    assert f'on <a href="{url("worker", "inline")}">inline</a>' in page


def test_a_job_shows_the_options_of_its_command(admin_client):
    page = text(admin_client, url("job", Ruled.defer("flaky").id))
    assert "<code>retry_on</code></dt><dd>RetryOn(" in page
    assert "<code>timeout</code></dt><dd>180<" in page


@pytest.mark.parametrize("harm", ["no payload", "no hash", "nonsense", "large"])
def test_a_job_that_cannot_be_read_is_shown_as_far_as_it_can(harm, admin_client):
    job = WriteNote.defer("x")
    client = get_connection("default")
    if harm == "no payload":
        client.hdel(job.key, "data")
    elif harm == "large":
        client.hset(job.key, "data", json.dumps(["x" * 14_000_000]))
    elif harm == "no hash":
        client.delete(job.key)
        client.set(job.key, "x")
    elif harm == "nonsense":
        client.hset(
            job.key, mapping={"data": b"\xff", "progress": b"{", "history": b"{", "prereqs": b"{[", "due": b"soon"}
        )
    if harm == "no hash":  # as if it were not there
        assert admin_client.get(url("job", job.id)).status_code == 404
    else:
        assert job.id in text(admin_client, url("job", job.id))
    assert "queued" in text(admin_client, url("list", "queued")).lower()


def test_a_job_shows_its_attempts(admin_client, worker):
    """Of a dead job all of them; of one that is to be retried those before the next."""
    dead, retrying = Fail.defer("x"), TroubleTwice.defer()
    worker.run()

    assert "<dt>Attempts</dt><dd>1</dd>" in text(admin_client, url("job", dead.id))
    assert "<dt>Previous attempts</dt><dd>1</dd>" in text(admin_client, url("job", retrying.id))
    assert [admin_client.get(url("api_job", job.id)).json()["attempts"] for job in (dead, retrying)] == [1, 1]
