"""Who may see and do what on the dashboard, and what each address costs."""

import zlib

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from jobs import Batch, bulk, control, queues, scheduler
from jobs.bulk import CHANGES
from jobs.dashboard import batches
from jobs.dashboard.actions import NEEDS
from jobs.dashboard.permissions import PERMISSIONS
from jobs.dashboard.urls import patterns
from jobs.inspection import Count, JobQuery, find
from jobs.job import JobState
from jobs.scheduler import Entry
from tests.jobs.dashboard.pages import OVERVIEW, count_trips, staff, text, url
from tests.sample.commands.notes import Fail, WriteNote

pytestmark = pytest.mark.django_db(transaction=True)


def a_change():
    return bulk.start("delete", "queued", {}, Count(0)).id


def a_batch():
    with Batch("a batch", on_success=WriteNote.prepare("x"), tags=["of the test"]) as batch:
        WriteNote.defer("x")
        with Batch("a child"):
            pass
    return batch.id


def a_worker():
    """One as its beats show it."""
    client = queues.get_queue("default").connection
    client.sadd("rq:workers", "rq:worker:w")
    client.hset("rq:worker:w", mapping={"queues": "default", "state": "busy", "threads": 2, "running": 1})
    return "w"


def a_profile():
    """One as an attempt leaves it."""
    client = queues.get_queue("default").connection
    told = {"command": "sample.WriteNote", "at": "1", "seconds": "1", "samples": 1, "ended": "finished", "cut": ""}
    client.hset("jobs:profile:x:1", mapping={**told, "summary": zlib.compress(b""), "graph": zlib.compress(b"<head>")})
    client.zadd("jobs:profiles", {"x:1": 1})
    return ["x", 1]


PAGES = {
    "dashboard_changelist": lambda: [],
    "list": lambda: ["dead"],
    "job": lambda: [WriteNote.defer("x").id],
    "queue": lambda: ["default"],
    "workers": lambda: [],
    "worker": lambda: [a_worker()],
    "recurring": lambda: [],
    "limits": lambda: [],
    "commands": lambda: [],
    "batches": lambda: [],
    "batch": lambda: [a_batch()],
    "change": lambda: [a_change()],
    "profiles": lambda: [],
    "search": lambda: [],
    "errors": lambda: [],
    "command": lambda: ["sample.WriteNote"],
    "flame_graph": a_profile,
}
# Who may not read these has no such page; they are not in the admin's frame, so nobody is sent to the login.
DATA = {
    "api_overview": lambda: [],
    "api_jobs": lambda: ["dead"],
    "api_job": lambda: [WriteNote.defer("x").id],
    "api_workers": lambda: [],
    "api_worker": lambda: [a_worker()],
    "api_recurring": lambda: [],
    "api_commands": lambda: [],
    "api_errors": lambda: [],
    "api_search": lambda: [],
    "api_limits": lambda: [],
    "api_batches": lambda: [],
    "api_batch": lambda: [a_batch()],
    "api_changes": lambda: [],
    "api_change": lambda: [a_change()],
    "metrics": lambda: [],
}
ACTIONS = {
    **{f"job_{name}": (needed, lambda: [WriteNote.defer("x").id]) for name, needed in NEEDS.items()},
    "job_edited": ("retry", lambda: [WriteNote.defer("x").id]),
    **{f"many_{name}": (needed, lambda: ["dead"]) for name, needed in NEEDS.items() if name in CHANGES},
    **{f"batch_{name}": (needed, lambda: [a_batch()]) for name, needed in batches.CHANGES.items()},
    "queue_pause": ("pause", lambda: ["low"]),
    "queue_resume": ("pause", lambda: ["low"]),
    "queue_clear": ("delete", lambda: ["low"]),
    **{f"limit_{name}": ("pause", lambda: ["x"]) for name in ("pause", "resume", "override")},
    "entry_pause": ("pause", lambda: ["x"]),
    "entry_resume": ("pause", lambda: ["x"]),
    "entry_run": ("retry", lambda: ["x"]),
    **{f"worker_{command}": ("workers", lambda: ["x"]) for command in ("quiet", "stop", "stacks", "profile")},
    **{f"workers_{command}": ("workers", lambda: []) for command in ("quiet", "stop", "stacks", "profile")},
}


OF_ITS_OWN = {"activity"}  # needs a permission besides `view`: tests/jobs/dashboard/test_activity.py
OWN = {"search_keep", "search_forget"}  # changes of what is the user's own: who may view may make them
PUBLIC = {"htmx"}  # a script that has no secrets
FORMS = {"job_edit"}  # pages for who may change: tests/jobs/dashboard/test_edit.py
CHOICES = {"zone"}  # kept in a cookie: tests/jobs/dashboard/test_times.py


def test_every_address_is_in_the_matrix():
    names = {pattern.name.removeprefix("jobs_") for pattern in patterns(admin.site)}
    assert names == PAGES.keys() | DATA.keys() | ACTIONS.keys() | OWN | OF_ITS_OWN | PUBLIC | CHOICES | FORMS


@pytest.mark.parametrize("name", sorted(OWN))
def test_what_is_the_users_own_is_for_who_may_view(name, client):
    client.force_login(staff("retry"))
    assert client.post(url(name), {"name": "x", "q": "y"}).status_code == 404
    client.force_login(staff("view"))
    assert client.post(url(name), {"name": "x", "q": "y"}).status_code == 302
    assert client.get(url(name)).status_code == 405


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_for_who_may_view(page, client, admin_client):
    address = url(page, *PAGES[page]())
    assert client.get(address).status_code == 302  # to the login
    client.force_login(staff())
    assert client.get(address).status_code == 404
    others = [right for right in PERMISSIONS if right != "view"]
    for right in (*([other] for other in others), others):
        client.force_login(staff(*right))
        assert client.get(address).status_code == 404
    client.force_login(staff("view"))
    assert client.get(address).status_code == 200
    assert admin_client.get(address).status_code == 200


@pytest.mark.parametrize("name", DATA)
def test_data_is_for_who_may_view(name, client, admin_client):
    address = url(name, *DATA[name]())
    assert client.get(address).status_code == 404
    client.force_login(staff())
    assert client.get(address).status_code == 404
    client.force_login(staff(*(right for right in PERMISSIONS if right != "view")))
    assert client.get(address).status_code == 404
    client.force_login(staff("view"))
    assert client.get(address).status_code == 200
    assert client.post(address).status_code == 405
    assert admin_client.get(address).status_code == 200


@pytest.mark.parametrize("name", ACTIONS)
def test_actions_are_for_who_has_the_right(name, client, admin_client):
    needed, args = ACTIONS[name]
    address = url(name, *args())
    assert client.post(address).status_code == 302  # to the login
    assert "/login/" in client.post(address).url
    client.force_login(staff())
    assert client.post(address).status_code == 404
    client.force_login(staff(needed))
    assert client.post(address).status_code == 404  # who may not see may not change
    client.force_login(staff("view"))
    assert client.post(address, {"confirmed": "1"}).status_code == 403
    for other in PERMISSIONS:
        if other not in ("view", needed):
            client.force_login(staff("view", other))
            assert client.post(address, {"confirmed": "1"}).status_code == 403
    client.force_login(staff("view", needed))
    assert client.get(address).status_code == 405
    assert client.post(address, {"confirmed": "1"}).status_code == 302
    assert admin_client.post(address, {"confirmed": "1"}).status_code == 302


def a_dead_change(name):
    """A bulk change whose job has died, and may be retried."""
    job = find(bulk.start(name, "queued", {}, Count(0)).id)
    control.cancel(job)
    return job


AGAIN = ["job_retry", "job_copy", "job_move", "job_run_now", "job_reschedule", "job_profile"]


@pytest.mark.parametrize(("name", "right"), [("delete", "delete"), ("cancel", "cancel"), ("clear", "delete")])
@pytest.mark.parametrize("button", AGAIN)
def test_a_bulk_change_is_started_again_by_whoever_may_make_it(button, name, right, client):
    job = a_dead_change(name)
    data = {"queue": "low", "at": "2030-01-01T10:00"}
    client.force_login(staff("view", "retry"))
    assert client.post(url(button, job.id), data).status_code == 403
    assert job.state == JobState.DISCARDED or job.state == JobState.CANCELLED
    assert not [row for row in JobQuery(state=JobState.QUEUED).all() if row.command == bulk.COMMAND]
    client.force_login(staff("view", "retry", right))
    assert client.post(url(button, job.id), data).status_code == 302


def test_an_entry_of_a_bulk_change_is_run_by_whoever_may_make_it(client):
    entry = Entry("clean up", bulk.COMMAND, kwargs={"change": "delete", "state": "dead", "filters": {}}, every=3_600)
    scheduler.add(entry)
    one, other = staff("view", "retry"), staff("view", "retry", "delete")
    client.force_login(one)
    assert client.post(url("entry_run", "clean up")).status_code == 403
    assert not scheduler.get("clean up").runs()
    client.force_login(other)
    assert client.post(url("entry_run", "clean up")).status_code == 302
    (run,) = scheduler.get("clean up").runs()
    control.cancel(find(run.job_id))
    client.force_login(one)
    assert client.post(url("job_retry", run.job_id)).status_code == 403


@pytest.mark.parametrize("scope", ["selected", "all", "by a job"])
def test_a_bulk_retry_starts_no_bulk_change_that_the_user_may_not_make(scope, client, worker, monkeypatch):
    job, other = a_dead_change("delete"), WriteNote.defer("x")
    control.cancel(other)
    if scope == "by a job":
        monkeypatch.setattr("jobs.dashboard.actions.MOST_AT_ONCE", 0)
    client.force_login(staff("view", "retry"))
    data = {"job": [job.id, other.id]} if scope == "selected" else {"all": "1", "confirmed": "1"}
    assert client.post(url("many_retry", "cancelled"), data).status_code == 302
    if scope == "by a job":
        worker.run()
    assert job.state == JobState.CANCELLED
    assert other.state != JobState.CANCELLED


# --- what a page costs -----------------------------------------------------------------------


def much():
    """Jobs in every registry that states share, entries, a worker, a change: whatever makes a page ask more often."""
    WriteNote.defer_many([("x",)] * 3_000, wait=60)
    prerequisite = WriteNote.defer("x", wait=60)
    WriteNote.defer_many([("x",)] * 3_000, prereq_jobs=[prerequisite])
    for number in range(20):
        scheduler.add(Entry(f"entry {number}", WriteNote, args=("x",), cron="@hourly"))
    control.cancel(WriteNote.defer("x"))
    a_worker()
    a_change()
    a_profile()
    client = queues.get_queue("default").connection
    client.sadd("rq:worker:w:executions", f"{prerequisite.id}:w.1")


OVERVIEWS = ("span=3days", "span=3days&by=by_queue", "by=by_command", "span=day&show=runtime")


@pytest.mark.parametrize("page", [*PAGES, *JobState, *(f"dashboard_changelist?{query}" for query in OVERVIEWS)])
def test_no_page_makes_more_than_15_round_trips(page, admin_client, monkeypatch, one_minute):
    much()
    name, _, query = str(page).partition("?")
    address = url(name, *PAGES[name]()) if name in PAGES else url("list", name)
    # Once: hours that nobody has added up yet are, and scripts that the server does not know are sent in full.
    text(admin_client, f"{address}?{query}")
    made = count_trips(monkeypatch)
    text(admin_client, f"{address}?{query}")
    assert 0 < len(made) <= 15


@pytest.mark.parametrize("query", ["text=nowhere", "error=KeyError", "id=nobody", "command=sample.WriteNote"])
@pytest.mark.parametrize("state", ["queued", "scheduled", "waiting"])
def test_no_search_makes_more_than_15_round_trips(state, query, admin_client, monkeypatch, one_minute):
    much()
    WriteNote.defer_many([("x",)] * 3_000)
    text(admin_client, f"{url('list', state)}?{query}")
    made = count_trips(monkeypatch)
    text(admin_client, f"{url('list', state)}?{query}")
    assert 0 < len(made) <= 15


@pytest.mark.parametrize("group", ["error", "command"])
def test_no_grouping_makes_more_than_15_round_trips(group, admin_client, monkeypatch, one_minute):
    for job in WriteNote.defer_many([("x",)] * 2_100):  # more than are looked at
        control.cancel(job)
    address = f"{url('list', 'discarded')}?group={group}"
    text(admin_client, address)
    made = count_trips(monkeypatch)
    text(admin_client, address)
    assert 0 < len(made) <= 15


# --- what is shown to whom -------------------------------------------------------------------


def test_a_button_without_its_right_is_not_shown(client, worker):
    job = Fail.defer()
    worker.run()
    pages = [url(name, *PAGES[name]()) for name in PAGES] + [url("job", job.id)]
    client.force_login(staff("view"))
    for address in pages:
        page = text(client, address).replace(f'method="post" action="{url("zone")}"', "")  # is for all readers
        assert 'method="post" action="/admin/jobs' not in page
        assert "formaction" not in text(client, address)
    assert "As stored in Redis" not in text(client, url("job", job.id))
    client.force_login(staff("view", "payloads", "retry"))
    assert "As stored in Redis" in text(client, url("job", job.id))
    assert f'action="{url("job_retry", job.id)}"' in text(client, url("job", job.id))
    assert f'action="{url("job_delete", job.id)}"' not in text(client, url("job", job.id))
    client.force_login(staff("view", "pause"))
    assert url("queue_pause", "low") in text(client, url("queue", "low"))
    assert url("queue_clear", "low") not in text(client, url("queue", "low"))
    client.force_login(staff("view", "delete"))
    assert url("queue_clear", "low") in text(client, url("queue", "low"))


def test_stacks_are_for_who_may_ask_for_them(client, valkey):
    queues.get_queue("default").connection.set(f"jobs:stacks:{a_worker()}", "Thread jobs-0")
    client.force_login(staff("view"))
    assert "Thread jobs-0" not in text(client, url("worker", "w"))
    client.force_login(staff("view", "workers"))
    assert "Thread jobs-0" in text(client, url("worker", "w"))


def test_a_change_needs_the_csrf_token(admin_user, client):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(admin_user)
    assert strict.post(url("queue_pause", "low")).status_code == 403
    assert queues.paused() == set()


def test_pages_have_no_inline_script_or_style(admin_client, worker):
    job = Fail.defer()
    worker.run()
    control.retry(job)
    pages = [text(admin_client, url(name, *PAGES[name]())) for name in PAGES]
    pages.append(admin_client.post(url("job_cancel", job.id)).content.decode())
    for page in pages:
        body = page.partition('id="jobs-page"')[2]
        assert " style=" not in body
        assert "<script>" not in body
        assert " onclick" not in body


def test_live_parts_come_without_the_page(admin_client):
    whole = text(admin_client, reverse(OVERVIEW))
    part = admin_client.get(reverse(OVERVIEW), headers={"HX-Request": "true"}).content.decode()
    assert "<html" in whole
    assert "<html" not in part
    assert "highest priority first" in part
