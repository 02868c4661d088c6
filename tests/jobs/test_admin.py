"""The dashboard through Django's client: what each page shows, what each button does, and who may."""

import json
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client, override_settings
from django.urls import reverse
from redis.connection import AbstractConnection

from config.queues import rq_queues
from jobs import control, queues, scheduler
from jobs.bulk import CHANGES
from jobs.connections import get_connection
from jobs.dashboard.access import PERMISSIONS
from jobs.dashboard.actions import NEEDS
from jobs.job import JobState
from jobs.scheduler import Entry
from tests.sample.commands.notes import Fail, KeepSecret, ShoutNote, WriteNote
from tests.sample.models import Note
from users.commands.send_welcome_email import SendWelcomeEmail
from users.models import User

pytestmark = pytest.mark.django_db(transaction=True)

OVERVIEW = "admin:jobs_dashboard_changelist"


def url(name, *args):
    return reverse(f"admin:jobs_{name}", args=args)


def text(client, address):
    response = client.get(address)
    assert response.status_code == 200, response
    return response.content.decode()


# --- the pages -------------------------------------------------------------------------------


def test_the_overview_shows_queues_in_priority_order_and_what_is_wrong(admin_client):
    WriteNote.defer_many([(str(n),) for n in range(1_234)])
    ShoutNote.defer("x")
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
    assert "No worker is running: nothing is done, nothing that is due is started." in page.context["warnings"]
    assert "The queue default is paused, and 1,234 jobs wait in it." in page.context["warnings"]


@pytest.mark.parametrize("span", ["hour", "day", "3days", "nonsense"])
def test_the_chart_has_its_numbers_in_a_table(span, admin_client, worker):
    WriteNote.defer("x")
    Fail.defer()
    worker.run()
    page = admin_client.get(reverse(OVERVIEW), {"span": span})
    assert (page.context["processed"], page.context["failed"]) == (2, 1)
    assert '<rect class="failed"' in page.content.decode()
    assert "<title>Attempts over time" in page.content.decode()


@pytest.mark.parametrize("name", ["overview", "jobs", "job", "workers", "recurring", "commands"])
def test_without_redis_every_page_says_so(name, admin_client, tmp_path):
    address = {
        "overview": reverse(OVERVIEW),
        "jobs": url("list", "dead"),
        "job": url("job", "x"),
    }.get(name) or url(name)
    with override_settings(RQ_QUEUES=rq_queues(f"unix://{tmp_path}/none.sock")):
        assert "none.sock" in text(admin_client, address)


@pytest.mark.parametrize("state", JobState)
def test_every_state_has_its_list(state, admin_client):
    assert "No job here." in text(admin_client, url("list", state.value))


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
        ((key, number, _),) = grouped.context["groups"]
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


@pytest.mark.parametrize("harm", ["no payload", "no hash", "nonsense", "large"])
def test_a_job_that_cannot_be_read_is_shown_as_far_as_it_can(harm, admin_client):
    job = WriteNote.defer("x")
    client = get_connection("default")
    if harm == "no payload":
        client.hdel(job.key, "data")
    elif harm == "large":
        client.hset(job.key, "data", json.dumps(["x" * 14_000_000]))
    elif harm == "nonsense":
        client.hset(job.key, mapping={"data": b"\xff", "progress": b"{", "history": b"{", "prereqs": b"[]"})
    if harm != "no hash":
        assert job.id in text(admin_client, url("job", job.id))
    assert "queued" in text(admin_client, url("list", "queued")).lower()


# --- the buttons -----------------------------------------------------------------------------


def test_one_job_is_retried_cancelled_moved_and_deleted(admin_client, worker):
    job = Fail.defer()
    worker.run()
    for action, state in (("retry", "queued"), ("cancel", "cancelled"), ("retry", "queued")):
        response = admin_client.post(url(f"job_{action}", job.id), {"next": url("job", job.id)}, follow=True)
        assert response.redirect_chain == [(url("job", job.id), 302)]
        assert job.state == state
    admin_client.post(url("job_move", job.id), {"queue": "low"})
    assert get_connection("low").lrange("rq:queue:low", 0, -1) == [job.id.encode()]
    admin_client.post(url("job_delete", job.id))
    assert job.state is None
    assert LogEntry.objects.earliest("pk").change_message == f"Job {job.id} was retried."
    assert LogEntry.objects.count() == 5


def test_a_scheduled_job_gets_another_time_in_the_readers_zone(admin_client, settings):
    settings.TIME_ZONE = "Europe/Amsterdam"
    job = WriteNote.defer("x", wait=3_600)
    assert 'name="at"' in text(admin_client, url("job", job.id))
    admin_client.post(url("job_reschedule", job.id), {"at": "2030-01-02T03:04:05"})
    due = datetime(2030, 1, 2, 3, 4, 5, tzinfo=ZoneInfo("Europe/Amsterdam")).timestamp()
    assert get_connection("default").zscore("rq:scheduled:default", job.id) == due
    assert 'value="2030-01-02T03:04:05"' in text(admin_client, url("job", job.id))
    assert (job.history[-1].name, job.history[-1].reason) == ("rescheduled", "2030-01-02T02:04:05.000000Z")
    page = admin_client.post(url("job_reschedule", job.id), {"at": "soon"}, follow=True).content.decode()
    assert "&#x27;soon&#x27; is no time" in page


def test_a_copy_of_a_job_is_enqueued(admin_client, worker):
    job = Fail.defer("bad luck")
    worker.run()
    admin_client.post(url("job_copy", job.id))
    (copy,) = map(bytes.decode, get_connection("default").lrange("rq:queue:default", 0, -1))
    assert copy != job.id
    assert job.state == "dead"
    assert "bad luck" in text(admin_client, url("job", copy))
    page = admin_client.post(url("job_copy", "gone"), follow=True).content.decode()
    assert "There is no record of job gone any more." in page
    get_connection("default").hset(job.key, "data", b"\xff")
    page = admin_client.post(url("job_copy", job.id), follow=True).content.decode()
    assert f"Job {job.id} cannot be copied" in page


def test_a_refusal_is_a_message(admin_client):
    job = WriteNote.defer("x")
    page = admin_client.post(url("job_retry", job.id), follow=True).content.decode()
    assert f"Job {job.id} cannot be retried: it is queued." in page
    assert LogEntry.objects.count() == 0


def test_it_goes_back_to_where_the_form_was_and_nowhere_else(admin_client):
    job = WriteNote.defer("x")
    response = admin_client.post(url("job_cancel", job.id), {"next": "https://evil.example/"})
    assert response.url == reverse(OVERVIEW)


def test_selected_jobs_and_all_that_the_filters_mean(admin_client, worker):
    jobs = Fail.defer_many([("a pear",), ("an apple",), ("an apple",)])
    worker.run()
    admin_client.post(url("many_retry", "dead"), {"job": [jobs[0].id]})
    assert [job.state for job in jobs] == ["queued", "dead", "dead"]
    page = admin_client.post(url("many_delete", "dead"), {"all": "1", "text": "apple"}, follow=True)
    assert "2 jobs were deleted." in page.content.decode()
    assert [job.state for job in jobs] == ["queued", None, None]


def test_many_are_changed_by_a_job(admin_client, worker, monkeypatch):
    monkeypatch.setattr("jobs.dashboard.actions.MOST_AT_ONCE", 5)
    jobs = WriteNote.defer_many([("x",)] * 20, wait=60)
    page = admin_client.post(url("many_cancel", "scheduled"), {"all": "1"}, follow=True).content.decode()
    assert "20 jobs are being cancelled by job " in page
    worker.run()
    assert {job.state for job in jobs} == {"cancelled"}


def test_queues_entries_and_workers(admin_client, valkey):
    admin_client.post(url("queue_pause", "low"))
    assert queues.paused() == {"low"}
    admin_client.post(url("queue_resume", "low"))
    assert queues.paused() == set()
    scheduler.add(Entry("hourly", WriteNote, args=("x",), cron="@hourly"))
    for action in ("pause", "resume", "run"):
        admin_client.post(url(f"entry_{action}", "hourly"))
    assert not scheduler.get("hourly").paused
    assert len(scheduler.get("hourly").runs()) == 1
    assert "hourly" in text(admin_client, url("recurring"))
    page = admin_client.post(url("worker_quiet", "gone"), follow=True).content.decode()
    assert "There is no worker &#x27;gone&#x27; any more." in page


@pytest.mark.processes
def test_a_worker_is_shown_and_obeys(admin_client, worker_process):
    process = worker_process("default", "low", concurrency=3)
    (name,) = process.names
    page = admin_client.get(url("workers"))
    (shown,) = page.context["workers"]
    assert (shown.name, shown.threads, shown.queues) == (name, 3, ("default", "low"))
    assert shown.memory_mb > 10
    admin_client.post(url("worker_stop", name))
    assert process.wait() == 0


# --- who may ---------------------------------------------------------------------------------

PAGES = {
    "overview": lambda: reverse(OVERVIEW),
    "list": lambda: url("list", "dead"),
    "job": lambda: url("job", WriteNote.defer("x").id),
    "workers": lambda: url("workers"),
    "recurring": lambda: url("recurring"),
    "commands": lambda: url("commands"),
}
ACTIONS = {
    **{f"job_{name}": (needed, lambda: [WriteNote.defer("x").id]) for name, needed in NEEDS.items()},
    **{f"many_{name}": (needed, lambda: ["dead"]) for name, needed in NEEDS.items() if name in CHANGES},
    "queue_pause": ("pause", lambda: ["low"]),
    "queue_resume": ("pause", lambda: ["low"]),
    "entry_pause": ("pause", lambda: ["x"]),
    "entry_resume": ("pause", lambda: ["x"]),
    "entry_run": ("retry", lambda: ["x"]),
    "worker_quiet": ("workers", lambda: ["x"]),
    "worker_stop": ("workers", lambda: ["x"]),
    "worker_stacks": ("workers", lambda: ["x"]),
}


def staff(*rights):
    user = User.objects.create_user(f"{'-'.join(rights) or 'none'}@jiki.example", "x" * 12, is_staff=True)
    for right in rights:
        user.user_permissions.add(Permission.objects.get(codename=PERMISSIONS[right].removeprefix("jobs.")))
    return user


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_for_who_may_view(page, client, admin_client):
    address = PAGES[page]()
    assert client.get(address).status_code == 302  # to the login
    client.force_login(staff())
    assert client.get(address).status_code == 404
    client.force_login(staff("retry"))
    assert client.get(address).status_code == 404
    client.force_login(staff("view"))
    assert client.get(address).status_code == 200
    assert admin_client.get(address).status_code == 200


@pytest.mark.parametrize("name", ACTIONS)
def test_actions_are_for_who_has_the_right(name, client, admin_client):
    needed, args = ACTIONS[name]
    address = url(name, *args())
    assert client.post(address).status_code == 302
    client.force_login(staff())
    assert client.post(address).status_code == 404
    others = [right for right in PERMISSIONS if right != needed]
    client.force_login(staff(*others))
    assert client.post(address).status_code == 403
    client.force_login(staff("view", needed))
    assert client.get(address).status_code == 405
    assert client.post(address).status_code == 302
    assert admin_client.post(address).status_code == 302


@pytest.mark.parametrize("page", [*PAGES, *JobState])
def test_no_page_makes_more_than_15_round_trips(page, admin_client, monkeypatch):
    WriteNote.defer_many([("x",)] * 3_000, wait=60)
    prerequisite = WriteNote.defer("x", wait=60)
    WriteNote.defer_many([("x",)] * 3_000, prereq_jobs=[prerequisite])
    for number in range(20):
        scheduler.add(Entry(f"entry {number}", WriteNote, args=("x",), cron="@hourly"))
    address = PAGES[page]() if page in PAGES else url("list", page.value)
    made = []
    send = AbstractConnection.send_packed_command

    def counted(self, *args, **kwargs):
        made.append(args)
        return send(self, *args, **kwargs)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", counted)
    text(admin_client, address)
    assert 0 < len(made) <= 15


def test_a_button_without_its_right_is_not_shown(client, worker):
    job = Fail.defer()
    worker.run()
    pages = [url("job", job.id), url("list", "dead"), reverse(OVERVIEW), url("workers"), url("recurring")]
    client.force_login(staff("view"))
    for address in pages:
        assert 'method="post" action="/admin/jobs' not in text(client, address)
        assert "formaction" not in text(client, address)
    assert "As it lies in Redis" not in text(client, url("job", job.id))
    client.force_login(staff("view", "payloads", "retry"))
    assert "As it lies in Redis" in text(client, url("job", job.id))
    assert f'action="{url("job_retry", job.id)}"' in text(client, url("job", job.id))
    assert f'action="{url("job_delete", job.id)}"' not in text(client, url("job", job.id))


def test_a_change_needs_the_csrf_token(admin_user, client):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(admin_user)
    assert strict.post(url("queue_pause", "low")).status_code == 403
    assert queues.paused() == set()


def test_pages_have_no_inline_script_or_style(admin_client, worker):
    job = Fail.defer()
    worker.run()
    control.retry(job)
    for name in PAGES:
        page = text(admin_client, PAGES[name]())
        body = page.partition('id="jobs-page"')[2]
        assert " style=" not in body
        assert "<script>" not in body
        assert " onclick" not in body


def test_live_parts_come_without_the_page(admin_client):
    whole = text(admin_client, reverse(OVERVIEW))
    part = admin_client.get(reverse(OVERVIEW), headers={"HX-Request": "true"}).content.decode()
    assert "<html" in whole
    assert "<html" not in part
    assert "Queues, highest priority first" in part
