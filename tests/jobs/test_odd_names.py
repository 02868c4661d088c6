"""Pages of jobs, workers and entries whose names and times somebody else has chosen."""

from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import unquote

import pytest
from django.core.management import call_command
from django.urls import resolve, reverse

from jobs import control, scheduler
from jobs.broker.connections import get_connection
from jobs.inspection import JobQuery
from jobs.job import JobState
from jobs.scheduler import Entry
from tests.sample.commands.notes import WriteNote

NAMES = ["eu/7", "a b", "100%", "a%2Fb", ".", "..", "a\\b", "a\nb", "é", "?x#y", "\u2028", "%41", "a" * 300]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("name", [*NAMES, ""])
def test_each_name_has_an_address_that_leads_to_it(name):
    address = reverse("admin:jobs_worker", args=[name])

    assert "/../" not in address
    assert "/./" not in address
    assert resolve(unquote(address)).kwargs == {"name": name}


@pytest.mark.parametrize("name", NAMES)
def test_a_job_of_any_id_is_shown_and_changed(name, admin_client, valkey):
    client = get_connection("default")
    record = {"status": "queued", "origin": "default", "created_at": "2026-01-01T00:00:00.000000Z"}
    record["data"] = '["jobs.execution.perform", null, ["sample.WriteNote", "x"], {}]'
    client.hset(f"rq:job:{name}", mapping=record)
    client.rpush("rq:queue:default", name)
    for page in ("jobs_dashboard_changelist", "jobs_workers"):
        assert admin_client.get(reverse(f"admin:{page}")).status_code == 200
    listed = admin_client.get(reverse("admin:jobs_list", args=["queued"]))
    address = reverse("admin:jobs_job", args=[name])
    assert (listed.status_code, f'href="{address}"' in listed.content.decode().replace("&#x27;", "'")) == (200, True)
    assert admin_client.get(address).status_code == 200
    admin_client.post(reverse("admin:jobs_job_cancel", args=[name]), {"confirmed": "1"})

    assert client.hget(f"rq:job:{name}", "status") == b"canceled"


@pytest.mark.parametrize("name", ["eu/1", "web:1", "RQ worker 4", ".."])
def test_a_worker_of_any_name_is_shown_and_told(name, admin_client, valkey):
    client = get_connection("default")
    client.sadd("rq:workers", f"rq:worker:{name}")
    client.hset(f"rq:worker:{name}", mapping={"queues": "default", "pid": 7, "threads": 1, "birth": "x"})
    heard = client.pubsub(ignore_subscribe_messages=True)
    heard.subscribe(f"rq:pubsub:{name}")
    heard.get_message(timeout=20)
    for page, args in (("jobs_dashboard_changelist", []), ("jobs_workers", []), ("jobs_worker", [name])):
        assert admin_client.get(reverse(f"admin:{page}", args=args)).status_code == 200
    admin_client.post(reverse("admin:jobs_worker_quiet", args=[name]), {"confirmed": "1"})

    assert heard.get_message(timeout=20)["data"] == b'{"command":"quiet"}'
    heard.close()


def test_an_entry_with_a_slash_in_its_name_is_paused_by_its_button(admin_client, valkey):
    scheduler.add(Entry("reports/daily", "sample.WriteNote", args=("x",), every=60))
    address = reverse("admin:jobs_entry_pause", args=["reports/daily"])
    assert f'action="{address}"' in admin_client.get(reverse("admin:jobs_recurring")).content.decode()
    admin_client.post(address)

    assert scheduler.get("reports/daily").paused


FAR = [
    datetime.max.replace(tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, tzinfo=timezone(-timedelta(hours=12))),
    datetime(2526, 1, 1, tzinfo=UTC),
]


@pytest.mark.parametrize("at", FAR)
def test_a_time_too_far_ahead_is_refused_before_anything_is_written(at, valkey):
    with pytest.raises(ValueError, match="a century ahead at most"):
        WriteNote.defer("x", wait_until=at)
    assert not list(valkey.client().scan_iter())
    job = WriteNote.defer("x", wait=60)
    with pytest.raises(ValueError, match="a century ahead at most"):
        control.reschedule(job, at)


@pytest.mark.parametrize("score", [253402300799.999, 1e300, float("inf"), -62135596800, float("-inf")])
def test_a_time_that_cannot_be_written_down_is_shown_as_the_nearest_that_can(score, admin_client, settings, capsys):
    """In every time zone: what is the last hour of time in one is past it in another."""
    job = WriteNote.defer("x", wait=60)
    job.connection.zadd("rq:scheduled:default", {job.id: score})
    for zone in ("Pacific/Kiritimati", "Etc/GMT+12"):
        settings.TIME_ZONE = zone
        for name, args in (("list", ["scheduled"]), ("job", [job.id]), ("queue", ["default"])):
            assert admin_client.get(reverse(f"admin:jobs_{name}", args=args)).status_code == 200
        for words in (("list", "--state", "scheduled"), ("show", job.id)):
            call_command("jobs", *words)

    assert len(JobQuery(state=JobState.SCHEDULED).page().rows) == 1
    assert job.id in capsys.readouterr().out
