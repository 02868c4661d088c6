"""The dashboard's buttons through Django's client: what each does, asks and notes."""

import html
import re
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from jobs import bulk, control, queues, scheduler
from jobs.attempts import profiles
from jobs.broker.connections import get_connection
from jobs.inspection import workers
from jobs.scheduler import Entry
from tests.jobs.dashboard.pages import OVERVIEW, send, text, url
from tests.processes import wait_until
from tests.sample.commands.long import Patient
from tests.sample.commands.notes import Fail, WriteNote, WriteNoteSlowly

pytestmark = pytest.mark.django_db(transaction=True)


def test_one_job_is_retried_cancelled_moved_and_deleted(admin_client, worker):
    job = Fail.defer()
    worker.run()
    for action, state in (("retry", "queued"), ("cancel", "cancelled"), ("retry", "queued")):
        send(admin_client, url(f"job_{action}", job.id), next=url("job", job.id))
        assert job.state == state
    admin_client.post(url("job_move", job.id), {"queue": "low"})
    assert get_connection("low").lrange("rq:queue:low", 0, -1) == [job.id.encode()]
    send(admin_client, url("job_delete", job.id))
    assert job.state is None
    assert LogEntry.objects.earliest("pk").change_message == f"Job {job.id} was retried."
    assert LogEntry.objects.count() == 5


@pytest.mark.parametrize("action", ["cancel", "delete"])
def test_what_cannot_be_taken_back_is_asked_first(action, admin_client):
    job = WriteNote.defer("x")
    page = admin_client.post(url(f"job_{action}", job.id), {"next": url("job", job.id)})
    assert page.context["question"] == f"{action.capitalize()} job {job.id}?"
    assert job.state == "queued"
    assert LogEntry.objects.count() == 0
    assert f'href="{url("job", job.id)}"' in page.content.decode()
    assert f"Job {job.id} was " in send(admin_client, url(f"job_{action}", job.id))


def test_a_dead_job_is_retried_in_another_queue_with_a_fresh_budget(admin_client, worker):
    job = Fail.defer()
    worker.run()
    get_connection("default").hset(job.key, "progress", b'{"attempts": 7}')
    page = send(admin_client, url("job_retry", job.id), queue="low")
    assert f"Job {job.id} was retried in low." in page
    assert get_connection("low").lrange("rq:queue:low", 0, -1) == [job.id.encode()]
    assert get_connection("low").zcard("rq:failed:default") == 0
    assert job.progress.attempts == 0
    page = admin_client.post(url("job_retry", job.id), {"queue": "urgent"}, follow=True).content.decode()
    assert "Unknown queue" in page


def test_a_blocked_job_is_run_anyway(admin_client, worker):
    dead = Fail.defer()
    blocked = WriteNote.defer("x", prereq_jobs=[dead])
    worker.run()
    assert "Run anyway" in text(admin_client, url("job", blocked.id))
    send(admin_client, url("job_run_now", blocked.id))
    assert blocked.state == "queued"


def test_a_scheduled_job_gets_another_time_in_the_readers_zone(admin_client, settings):
    settings.TIME_ZONE = "Europe/Amsterdam"
    job = WriteNote.defer("x", wait=3_600)
    assert 'name="at"' in text(admin_client, url("job", job.id))
    admin_client.post(url("job_reschedule", job.id), {"at": "2030-01-02T03:04:05"})
    due = datetime(2030, 1, 2, 3, 4, 5, tzinfo=ZoneInfo("Europe/Amsterdam")).timestamp()
    assert get_connection("default").zscore("rq:scheduled:default", job.id) == due
    assert 'value="2030-01-02T03:04:05"' in text(admin_client, url("job", job.id))
    assert (job.history[-1].name, job.history[-1].reason) == ("rescheduled", "2030-01-02T02:04:05.000000Z")
    shown = text(admin_client, url("job", job.id))
    assert '<small class="jobs-why">02 Jan 03:04:05<' in shown  # in the reader's zone, as every time
    assert re.search(r"<dt>Due</dt><dd><time [^>]*>02 Jan 03:04:05</time>", shown)
    page = admin_client.post(url("job_reschedule", job.id), {"at": "soon"}, follow=True).content.decode()
    assert "Invalid time &#x27;soon&#x27;" in page


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


def test_who_was_logged_out_meanwhile_is_told_that_nothing_was_changed(client, admin_user):
    job = WriteNote.defer("x", wait=60)
    login = client.post(url("job_run_now", job.id), {"next": url("job", job.id)}, follow=True)
    client.force_login(admin_user)
    answer = client.get(login.context["next"])
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert "Nothing was changed" in answer.content.decode()
    assert job.state == "scheduled"


def test_it_goes_back_to_where_the_form_was_and_nowhere_else(admin_client):
    job = WriteNote.defer("x")
    response = admin_client.post(url("job_copy", job.id), {"next": "https://evil.example/"})
    assert response.url == reverse(OVERVIEW)


def pressed(client, page, action, job):
    """Press a button of a page as it stands there, say yes where it asks, and see where that leads."""
    form = re.search(rf'<form method="post" action="{url(f"job_{action}", job.id)}".*?</form>', page, re.DOTALL)
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form.group()))
    fields = {name: html.unescape(value) for name, value in fields.items()}
    answer = client.post(url(f"job_{action}", job.id), fields)
    if answer.status_code == 200:
        answer = client.post(url(f"job_{action}", job.id), {**fields, "confirmed": "1"})
    return answer.url


def test_after_an_action_a_job_is_shown_until_it_has_gone_then_the_list_from_which_one_came(admin_client, worker):
    job, listed = Fail.defer(), url("list", "dead") + "?text=luck&order=oldest"
    worker.run()
    page = admin_client.get(url("job", job.id), headers={"referer": f"http://testserver{listed}"}).content.decode()
    assert f'href="{html.escape(listed)}"' in page
    landed = pressed(admin_client, page, "retry", job)
    assert landed.startswith(url("job", job.id))
    page = text(admin_client, landed)  # it is known still, whatever page the browser comes from now
    assert "was retried" in page
    assert pressed(admin_client, page, "delete", job) == listed
    answer = admin_client.get(landed)
    assert answer.status_code == 404
    assert f'href="{html.escape(listed)}"' in answer.content.decode()


@pytest.mark.parametrize("action", ["cancel", "profile"])
def test_of_a_job_that_somebody_else_has_deleted_one_comes_to_the_list(action, admin_client):
    job = WriteNote.defer("x")
    page = text(admin_client, url("job", job.id))
    control.delete(job)
    assert pressed(admin_client, page, action, job) == url("list", "queued")


def test_a_job_that_is_forgotten_when_it_is_done_is_no_page_to_go_on_to(admin_client):
    brief, kept = WriteNoteSlowly.defer("x", wait=60), WriteNote.defer("x", wait=60)
    assert pressed(admin_client, text(admin_client, url("job", brief.id)), "run_now", brief) == url("list", "scheduled")
    assert pressed(admin_client, text(admin_client, url("job", kept.id)), "run_now", kept) == url("job", kept.id)


@pytest.mark.parametrize("other", ["http://evil.example/admin/jobs/dashboard/jobs/dead/", "/admin/", "/nowhere/", "//"])
def test_what_is_no_list_of_ours_is_none_to_go_back_to(other, admin_client):
    job = WriteNote.defer("x")
    page = admin_client.get(url("job", job.id), {"list": other}).content.decode()
    assert pressed(admin_client, page, "delete", job) == url("list", "queued")


# --- many at once ----------------------------------------------------------------------------


def test_selected_jobs_and_all_that_the_filters_mean(admin_client, worker):
    jobs = Fail.defer_many([("a pear",), ("an apple",), ("an apple",)])
    worker.run()
    send(admin_client, url("many_retry", "dead"), job=[jobs[0].id])
    assert [job.state for job in jobs] == ["queued", "dead", "dead"]
    page = admin_client.post(url("many_delete", "dead"), {"all": "1", "text": "apple", "next": url("list", "dead")})
    assert page.context["question"] == "Delete 2 jobs?"
    assert "2 jobs were deleted." in send(admin_client, url("many_delete", "dead"), all="1", text="apple")
    assert [job.state for job in jobs] == ["queued", None, None]
    assert LogEntry.objects.latest("pk").change_message == "2 jobs were deleted."


def test_selected_jobs_that_are_to_be_deleted_are_asked_about(admin_client):
    jobs = WriteNote.defer_many([("x",)] * 3)
    page = admin_client.post(url("many_delete", "queued"), {"job": [job.id for job in jobs]})
    assert page.context["question"] == "Delete 3 jobs?"
    assert page.content.decode().count('name="job"') == 3


def test_nothing_selected_is_said(admin_client):
    for action in ("retry", "delete"):
        page = admin_client.post(url(f"many_{action}", "dead"), follow=True).content.decode()
        assert "No job was selected." in page


def test_of_none_nothing_is_asked(admin_client):
    for name, about, told in (
        ("many_delete", "dead", "No matching jobs are left."),
        ("queue_clear", "low", "The queue low is empty."),
    ):
        page = admin_client.post(url(name, about), {"all": "1"}, follow=True)
        assert told in page.content.decode()
    assert LogEntry.objects.count() == 0


def test_jobs_that_went_meanwhile_are_told_and_not_logged(admin_client):
    gone, stays = WriteNote.defer("x", wait=60), WriteNote.defer("y", wait=60)
    control.delete(gone)
    page = send(admin_client, url("many_run_now", "scheduled"), job=[gone.id])
    text = "No job was set to run now. 1 was skipped: it no longer exists, or its state no longer allows the change."
    assert text in page
    assert LogEntry.objects.count() == 0
    page = send(admin_client, url("many_run_now", "scheduled"), job=[gone.id, stays.id])
    assert "1 job was set to run now. 1 was skipped" in page


def test_many_are_changed_by_a_job_whose_page_ends_with_the_result(admin_client, worker, monkeypatch):
    monkeypatch.setattr("jobs.dashboard.actions.MOST_AT_ONCE", 5)
    jobs = WriteNote.defer_many([("x",)] * 20, wait=60)
    page = send(admin_client, url("many_cancel", "scheduled"), all="1")
    (change,) = bulk.recent()
    assert "20 jobs are being cancelled." in page
    assert "Waiting for a worker." in page
    assert '<noscript><meta http-equiv="refresh"' in page
    assert url("change", change.id) in text(admin_client, reverse(OVERVIEW))
    worker.run()
    assert {job.state for job in jobs} == {"cancelled"}
    page = text(admin_client, url("change", change.id))
    assert "20 jobs were cancelled." in page
    assert "http-equiv" not in page


def test_a_change_whose_job_died_says_so(admin_client, worker, monkeypatch):
    monkeypatch.setattr("jobs.dashboard.actions.MOST_AT_ONCE", 5)
    monkeypatch.setattr("jobs.bulk.carry_out", lambda *_: 1 / 0)
    WriteNote.defer_many([("x",)] * 20, wait=60)
    send(admin_client, url("many_cancel", "scheduled"), all="1")
    worker.run()
    page = text(admin_client, url("change", bulk.recent()[0].id))
    assert "The change stopped before the first job. ZeroDivisionError" in page


@pytest.mark.parametrize("many", [3, 12])
def test_a_queue_is_cleared(many, admin_client, worker, monkeypatch):
    monkeypatch.setattr("jobs.dashboard.actions.MOST_AT_ONCE", 5)
    jobs = WriteNote.defer_many([("x",)] * many, queue="low")
    other = WriteNote.defer("y")
    page = admin_client.post(url("queue_clear", "low"), {"next": url("queue", "low")})
    assert page.context["question"] == f"Delete all {many} jobs that wait in the queue low?"
    send(admin_client, url("queue_clear", "low"))
    worker.run()
    assert {job.state for job in jobs} == {None}
    assert other.state == "finished"
    assert "jobs were deleted" in str(LogEntry.objects.latest("pk").change_message) or many == 12


# --- the machinery ---------------------------------------------------------------------------


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
    assert shown.load >= 0
    assert f'href="{name}/"' in page.content.decode()
    send(admin_client, url("workers_quiet"), worker=[name])
    wait_until(lambda: "taking no more jobs" in process.output)
    assert name in text(admin_client, url("worker", name))
    page = admin_client.post(url("workers_stop"), {"worker": [name]})
    assert page.context["question"] == f"Stop {name}? Running jobs have 25 seconds to finish."
    send(admin_client, url("worker_stop", name))
    assert process.wait() == 0


@pytest.mark.processes
def test_a_worker_shows_its_stacks_on_its_page(admin_client, worker_process, tmp_path):
    process = worker_process("default", concurrency=2)
    (name,) = process.names
    job = Patient.defer(str(tmp_path / "started"), str(tmp_path / "release"))
    wait_until((tmp_path / "started").exists)
    send(admin_client, url("worker_stacks", name))
    wait_until(lambda: workers.get(name)[1])
    page = text(admin_client, url("worker", name))
    assert f"job {job.id} in default" in page
    assert "in call" in page
    (tmp_path / "release").touch()
    assert 0 < get_connection("default").ttl(f"jobs:stacks:{name}") <= 600


@pytest.mark.processes
def test_a_worker_profiles_its_next_attempts_and_no_more(admin_client, worker_process):
    process = worker_process("default", concurrency=2)
    (name,) = process.names
    send(admin_client, url("worker_profile", name))
    wait_until(lambda: "profiling the next 20 attempts" in process.output)
    jobs = WriteNote.defer_many([(str(number),) for number in range(profiles.NEXT_ONES + 5)])
    wait_until(lambda: all(job.state == "finished" for job in jobs))
    assert len(profiles.recent()) == profiles.NEXT_ONES


def test_a_worker_that_there_is_not(admin_client):
    assert admin_client.get(url("worker", "gone")).status_code == 404
    page = admin_client.post(url("workers_quiet"), follow=True).content.decode()
    assert "No worker was selected." in page
