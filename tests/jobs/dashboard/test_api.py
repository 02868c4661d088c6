"""The API and the metrics: for who may read them, the same data as the pages, counted once."""

from base64 import urlsafe_b64encode

import pytest
from django.test import override_settings
from django.urls import reverse

from config.queues import rq_queues
from jobs import bulk, scheduler
from jobs.broker.connections import get_connection
from jobs.inspection import Count, attempt_counts
from jobs.scheduler import Entry
from tests.jobs.dashboard.pages import staff
from tests.sample.commands.notes import Fail, KeepSecret, WriteNote
from tests.sample.commands.waiting import Measure

pytestmark = pytest.mark.django_db(transaction=True)

API = ["api_overview", "api_workers", "api_recurring", "api_commands", "api_limits", "api_changes", "metrics"]


def url(name, *args):
    return reverse(f"admin:jobs_{name}", args=args)


@pytest.fixture(autouse=True)
def tokens(settings):
    settings.JOBS = {**settings.JOBS, "API_TOKENS": ["right"]}


def get(client, name, *args, token="right", **query):
    return client.get(url(name, *args), query, headers={"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize("name", API)
def test_it_is_for_who_may_view_or_has_a_token(name, client):
    assert client.get(url(name)).status_code == 404
    refused = get(client, name, token="wrong")
    assert (refused.status_code, refused["WWW-Authenticate"]) == (401, "Bearer")
    assert get(client, name, token="").status_code == 404
    assert get(client, name).status_code == 200
    assert get(client, name)["Cache-Control"] == refused["Cache-Control"] == "private, no-store"
    client.force_login(staff())
    assert client.get(url(name)).status_code == 404
    client.force_login(staff("view"))
    assert client.get(url(name)).status_code == 200
    assert client.post(url(name)).status_code == 405


@pytest.mark.parametrize("name", API)
def test_without_redis_it_is_unavailable(name, client, tmp_path):
    with override_settings(RQ_QUEUES=rq_queues(f"unix://{tmp_path}/none.sock")):
        assert get(client, name).status_code == 503


def test_jobs_are_read_page_by_page(client, worker):
    Fail.defer_many([(str(n),) for n in range(7)])
    worker.run()
    first = get(client, "api_jobs", "dead", size=5).json()
    second = get(client, "api_jobs", "dead", size=5, cursor=first["next_cursor"]).json()
    assert (len(first["jobs"]), len(second["jobs"])) == (5, 2)
    assert first["jobs"][0]["reason"].startswith("RuntimeError: ")
    assert get(client, "api_jobs", "dead", text="('3')").json()["jobs"][0]["description"] == "sample.Fail('3')"
    assert get(client, "api_jobs", "dead", cursor="x!").status_code == 400
    assert get(client, "api_jobs", "dead", size="x").status_code == 400
    assert get(client, "api_jobs", "nonsense").status_code == 404


@pytest.mark.parametrize("offset", [2**63, 2**64, 10**40, -1])
def test_a_cursor_that_redis_would_refuse_is_a_bad_request(offset, client, admin_client):
    cursor = urlsafe_b64encode(f'{{"default":{offset}}}'.encode()).decode().rstrip("=")
    answer = get(client, "api_jobs", "queued", cursor=cursor)

    assert answer.status_code == 400
    assert "Invalid cursor" in answer.json()["error"]
    assert admin_client.get(reverse("admin:jobs_list", args=["queued"]), {"cursor": cursor}).status_code == 404


def test_what_waits_says_for_what(client):
    first = [WriteNote.defer("x", wait=60) for _ in range(4)]
    WriteNote.defer("y", prereq_jobs=first)
    (found,) = get(client, "api_jobs", "waiting").json()["jobs"]
    assert (len(found["waits_for"]), found["waits_for_in_all"]) == (3, 4)
    assert set(found["waits_for"]) < {job.id for job in first}
    job = get(client, "api_job", first[0].id).json()
    assert (job["dependents"], job["dependents_in_all"]) == ([found["id"]], 1)


def test_a_job_is_found_by_its_id(client):
    jobs = WriteNote.defer_many([("x",)] * 3)
    (found,) = get(client, "api_jobs", "queued", id=jobs[1].id).json()["jobs"]
    assert found["id"] == jobs[1].id


def test_a_change_of_many_and_how_far_it_has_come(client, worker):
    WriteNote.defer_many([("x",)] * 3, wait=60)
    change = bulk.start("cancel", "scheduled", {"queue": "default"}, Count(3))
    found = get(client, "api_change", change.id).json()
    assert (found["name"], found["changed"], found["ended"], found["state"]) == ("cancel", 0, None, "queued")
    assert found["count"] == {"value": 3, "more": False}
    worker.run()
    (found,) = get(client, "api_changes").json()["changes"]
    assert (found["id"], found["changed"], found["filters"]) == (change.id, 3, {"queue": "default"})
    assert found["ended"]
    assert get(client, "api_change", "x").status_code == 404


def test_a_worker_with_its_stacks(client, valkey):
    server = get_connection("default")
    server.sadd("rq:workers", "rq:worker:w")
    server.hset("rq:worker:w", mapping={"queues": "low", "threads": 2, "load": "0.5"})
    server.set("jobs:stacks:w", "Thread jobs-0")
    found = get(client, "api_worker", "w").json()
    assert (found["stacks"], found["load"], found["queues"]) == ("Thread jobs-0", 0.5, ["low"])
    assert get(client, "api_worker", "x").status_code == 404


def test_commands_over_time(client, worker):
    WriteNote.defer_many([("x",)] * 3)
    worker.run()
    found = get(client, "api_commands", span="day").json()
    (command,) = found["commands"]
    assert sum(command["attempts"]) == 3
    assert len(command["attempts"]) == len(command["failures"]) == len(found["steps"])
    assert get(client, "api_commands", span="week").status_code == 400


def test_one_job_with_its_history(client, worker):
    job = Fail.defer("bad luck")
    worker.run()
    found = get(client, "api_job", job.id).json()
    assert (found["state"], found["reason"]) == ("dead", "RuntimeError: bad luck")
    assert "failed" in [event["name"] for event in found["history"]]
    assert [step["name"] for step in found["timeline"]] == ["queued", "failed"]
    assert "RuntimeError: bad luck" in found["timeline"][1]["traceback"]
    assert get(client, "api_job", "x").status_code == 404


def test_what_a_job_reported_and_returned(client, worker):
    job, failed = Measure.defer(3), Fail.defer()
    assert get(client, "api_job", job.id).json()["report"] is None
    worker.run()
    found = get(client, "api_job", job.id).json()
    assert found["returned"] == "3"
    report = found["report"]
    assert (report["done"], report["total"], report["text"]) == (3, 3, "counting")
    assert get(client, "api_job", failed.id).json()["returned"] is None


def test_private_arguments_are_not_there(client):
    job = KeepSecret.defer("hunter2")
    assert b"hunter2" not in get(client, "api_job", job.id).content + get(client, "api_jobs", "queued").content


def test_the_overview_entries_and_commands(client, worker):
    WriteNote.defer("x")
    scheduler.add(Entry("hourly", WriteNote, args=("x",), every=3_600))
    worker.run()
    overview = get(client, "api_overview").json()
    assert overview["counts"]["finished"] == {"value": 1, "more": False}
    assert overview["queues"][1]["last_hour"] == {"finished": 1}
    (entry,) = get(client, "api_recurring").json()["entries"]
    assert (entry["name"], entry["every_seconds"]) == ("hourly", 3_600)
    (command,) = get(client, "api_commands").json()["commands"]
    assert (command["command"], command["outcomes"]) == ("sample.WriteNote", {"finished": 1})


def samples(client):
    found = {}
    for line in get(client, "metrics").content.decode().splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def test_metrics(client, worker):
    WriteNote.defer_many([("x",)] * 3)
    Fail.defer()
    worker.run()
    WriteNote.defer("waits", queue="low")
    found = samples(client)

    assert found['jobs_queue_length{queue="low"}'] == 1
    assert found['jobs_dead{queue="default"}'] == 1
    assert found['jobs_attempts_total{command="sample.WriteNote",outcome="finished",queue="default"}'] == 3
    assert found['jobs_attempts_total{command="sample.Fail",outcome="dead",queue="default"}'] == 1
    assert found['jobs_attempt_seconds_count{command="sample.WriteNote",queue="default"}'] == 3
    buckets = [value for name, value in found.items() if "seconds_bucket" in name and "WriteNote" in name]
    assert buckets == sorted(buckets)
    assert found["jobs_workers"] == 0
    assert found["jobs_scheduler_lag_seconds"] == 0


def test_counters_stay_when_the_minutes_are_summed_and_gone(client, worker):
    WriteNote.defer("x")
    worker.run()
    redis = get_connection("default")
    (key,) = redis.keys("jobs:counts:[0-9]*")
    redis.rename(key, f"jobs:counts:{int(key.rpartition(b':')[2]) - 120}")
    name = 'jobs_attempts_total{command="sample.WriteNote",outcome="finished",queue="default"}'
    assert samples(client)[name] == 1
    attempt_counts.roll_up()
    assert samples(client)[name] == 1
    redis.delete(*redis.keys("jobs:counts:[0-9]*"))
    assert samples(client)[name] == 1


def test_the_lag_is_that_of_the_most_overdue_entry(client):
    scheduler.add(Entry("hourly", WriteNote, args=("x",), every=3_600))
    get_connection("default").zadd("rq:scheduler:scheduled_jobs", {"entry-hourly": 1})
    assert samples(client)["jobs_scheduler_lag_seconds"] > 1e9
