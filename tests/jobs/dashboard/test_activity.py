"""The activity: who changed what, when, and which jobs."""

import pytest
from django.core.management import call_command

from jobs.broker.connections import get_connection
from jobs.inspection import activity
from tests.jobs.dashboard.pages import count_trips, send, staff, text, url
from tests.sample.commands.notes import Fail, WriteNote

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def person(client):
    user = staff("view", "activity", "retry", "delete", "pause")
    client.force_login(user)
    return user


def latest():
    return activity.page(1)[0][0]


def test_a_change_of_one_job_is_kept_with_its_user(person, client, worker):
    job = Fail.defer("x")
    worker.run()
    send(client, url("job_retry", job.id))
    change = latest()
    assert (change.who, change.what, change.subject) == (person.get_username(), "retry", job.id)
    page = text(client, url("activity"))
    assert person.get_username() in page
    assert f"Job {job.id} was retried." in page
    assert f"Job {job.id} was retried." in text(client, url("job", job.id)).partition("Activity")[2]


def test_who_deleted_them_is_found_with_filters_count_and_some_ids(person, client, worker):
    jobs = [Fail.defer(f"x {n}") for n in range(15)]
    worker.run()
    send(client, url("many_delete", "dead"), all="1", queue="default", q="error:RuntimeError")
    change = latest()
    assert (change.what, change.state, change.count, change.queue) == ("delete", "dead", "15", "default")
    assert dict(change.filters) == {"queue": "default", "q": "error:RuntimeError"}
    assert len(change.ids) == activity.SAMPLE
    assert {job.id for job in jobs} > set(change.ids)
    gone = client.get(url("job", jobs[3].id))
    assert gone.status_code == 404
    assert f"{person.get_username()}: 15 jobs were deleted." in gone.content.decode()
    client.force_login(staff("view"))
    assert person.get_username() not in client.get(url("job", jobs[3].id)).content.decode()


def test_a_change_by_a_job_names_some_of_its_jobs(person, client, worker, monkeypatch):
    monkeypatch.setattr("jobs.dashboard.actions.MOST_AT_ONCE", 2)
    Fail.defer_many([("x",)] * 4)
    worker.run()
    send(client, url("many_delete", "dead"), all="1")
    change = latest()
    assert (change.what, change.state, change.count, len(change.ids)) == ("delete", "dead", "4", 4)


def test_a_queue_shows_its_changes(person, client):
    send(client, url("queue_pause", "low"))
    send(client, url("queue_pause", "mailers"))
    part = text(client, url("queue", "low")).partition("Activity")[2]
    assert "The queue low is paused." in part
    assert "mailers is paused" not in part


def test_changes_are_filtered_and_paged(person, client, monkeypatch):
    monkeypatch.setattr("jobs.dashboard.activities.SHOWN", 3)
    for _ in range(2):
        send(client, url("queue_pause", "low"))
        send(client, url("queue_resume", "low"))
    assert len(client.get(url("activity"), {"what": "pause"}).context["activity"]) == 2
    assert client.get(url("activity"), {"who": "nobody"}).context["activity"] == []
    assert len(client.get(url("activity"), {"text": "LOW WAS"}).context["activity"]) == 2
    first = client.get(url("activity")).context
    (last,) = client.get(url("activity") + "?" + first["next"]).context["activity"]
    assert (len(first["activity"]), last.what) == (3, "pause")
    assert client.get(url("activity"), {"cursor": "x"}).status_code == 404


def test_it_has_a_permission_of_its_own(client):
    for rights in ((), ("view",), ("activity",), ("view", "delete")):
        client.force_login(staff(*rights))
        assert client.get(url("activity")).status_code == 404
        assert url("activity") not in client.get(url("workers")).content.decode()
    client.force_login(staff("activity", "view"))
    assert client.get(url("activity")).status_code == 200
    assert url("activity") in text(client, url("workers"))


def test_it_is_bounded_and_what_is_no_change_is_left_out(person, client):
    job = WriteNote.defer("x")
    for _ in range(30):
        activity.record(activity.Change("somebody", "copy", "a" * 5_000), [job.id])
    redis = get_connection("critical")
    assert redis.llen(f"jobs:activity:{job.id}") == activity.PER_JOB
    assert 0 < redis.ttl(f"jobs:activity:{job.id}") <= activity.KEPT_FOR
    assert len(latest().text) == activity.LONGEST
    activity.record(activity.Change("somebody", "delete", "many"), [str(n) for n in range(activity.NAMED + 1)])
    assert not redis.exists("jobs:activity:7")
    redis.xadd("jobs:activity", {"change": "no JSON"})
    redis.xadd("jobs:activity", {"change": '{"who": "<script>", "filters": 3}'})
    assert latest().what == "delete"
    redis.delete("jobs:activity")
    redis.set("jobs:activity", "no stream")
    assert activity.page(5) == ([], "")


def test_changes_from_a_terminal_are_kept_too(person, worker):
    job = Fail.defer("x")
    worker.run()
    call_command("jobs", "delete", "--state", "dead", "--error", "RuntimeError", "--yes")
    change = latest()
    assert "in a terminal on" in change.who
    assert (change.what, change.count, dict(change.filters)) == (
        "delete",
        "1",
        {"error": "RuntimeError", "state": "dead"},
    )
    assert change.ids == (job.id,)


def test_what_is_not_kept_does_not_undo_a_change_from_a_terminal(worker, caplog):
    job = Fail.defer("x")
    worker.run()
    get_connection("critical").set("jobs:activity", "no stream")
    call_command("jobs", "delete", job.id)
    assert job.state is None
    assert "the activity was not kept: 1 job was deleted." in caplog.text


def test_a_text_that_utf_8_cannot_hold_is_kept_without_it():
    activity.record(activity.Change("somebody", "delete", "a file \udcff"))
    assert latest().text == "a file ?"


def test_it_costs_a_few_round_trips(person, client, monkeypatch):
    for _ in range(5):
        send(client, url("queue_pause", "low"))
    text(client, url("activity"))
    made = count_trips(monkeypatch)
    text(client, url("activity"))
    assert len(made) <= 3
