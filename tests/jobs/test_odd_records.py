"""Records of jobs and entries in which somebody else has written: one such record stops no other, and no reader."""

import zlib
from itertools import product

import orjson
import pytest
from django.urls import reverse

from jobs import bulk, control, doctor, scheduler
from jobs.attempts import profiles
from jobs.broker import keys
from jobs.broker.connections import get_connection
from jobs.cli import show
from jobs.dashboard import api, changes
from jobs.dashboard.job import job as job_page
from jobs.errors import ChangeRefusedError, ScheduleError
from jobs.inspection import JobQuery, find
from jobs.job import JobState
from jobs.record import payload
from jobs.scheduler import Entry
from tests.sample.commands.notes import WriteNote

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

ODD = [b"", b"x", b"-1", b"1e999", b"9" * 400, b'{"id":[],"a":{}}', b"[null,null,[],{}]", b"[" * 5_000, b'"\\ud800"']
ODD += [b"\xff\xfe", b"line\nbreak", "\N{SUPERSCRIPT TWO}".encode()]
FIELDS = [
    *("status", "state", "reason", "data", "origin", "created_at", "enqueued_at", "started_at", "ended_at"),
    *("worker_name", "timeout", "result_ttl", "ttl", "meta", "progress", "interruptions", "survived", "attempts"),
    *("expires_at", "due", "prereqs", "context", "schedule", "profile", "history", "log", "unique", "unique_ms"),
    *("collapse", "collapsed", "latest", "steps", "more"),
    *("follows", "lacked", "front", "interrupted_by", "description", "success_callback_name", "retries_left"),
    *("retry_intervals", "dependency_ids", "group_id", "serialized_webhooks", "last_heartbeat", "enqueue_at_front"),
]
RECORD = {"status": "queued", "origin": "low", "created_at": "2026-01-01T00:00:00.000000Z", "more": "1s"}
RECORD |= {"data": '["jobs.execution.perform", null, ["sample.WriteNote", "x"], {}]'}
PLACES = {"queued": "queue", "deferred": "deferred", "failed": "failed"}
CHANGES = (control.run_now, control.retry, control.cancel, control.delete)


class Tries:
    """Calls, and those of them that raised."""

    def __init__(self):
        self.bad = {}

    def __call__(self, what, call, *words):
        try:
            return call(*words)
        except (ChangeRefusedError, ScheduleError):
            return None
        except Exception as error:
            self.bad[what] = f"{type(error).__qualname__}: {error}"[:300]


@pytest.mark.parametrize("status", PLACES)
def test_a_job_with_an_odd_field_stops_no_other_and_no_reader(status, worker, rf, admin_user, valkey):
    client, tries, request = get_connection("default"), Tries(), rf.get("/")
    request.user = admin_user
    victims = {f"{field}-{at}": (field, odd) for field in FIELDS for at, odd in enumerate(ODD)}
    for job_id, (field, odd) in victims.items():
        client.hset(keys.job(job_id), mapping=RECORD | {"status": status, field: odd})
        if status == "queued":
            client.rpush(keys.queue("low"), job_id)
        else:
            client.zadd(keys.registry(PLACES[status], "low"), {job_id: 9e9})
    for job_id in victims:
        tries(f"page of {job_id}", job_page, request, job_id)
        tries(f"API of {job_id}", lambda job_id=job_id: orjson.dumps(api.job(request, job_id), default=str))
        tries(f"show {job_id}", lambda job_id=job_id: show._fields(find(job_id)))
    for state in JobState:
        tries(f"list of {state}", lambda state=state: [row.as_dict() for row in JobQuery(state=state).all(10_000)])
    tries.bad |= {finding.what: "" for finding in doctor.examine() if "could not be examined" in finding.what}
    if status == "queued":
        good = WriteNote.using(queue="low").defer("x")
        worker.run()
        assert good.state == "finished"
        left = client.lrange(keys.queue("low"), 0, -1) + client.zrange(keys.registry("wip", "low"), 0, -1)
        assert left == []
    else:
        for change in CHANGES:
            for job_id in victims:
                if job := find(job_id):
                    tries(f"{change.__name__} {job_id}", change, job)

    assert tries.bad == {}


def test_an_entry_with_an_odd_definition_stops_no_other_and_no_page(admin_client, valkey):
    client, tries = get_connection("default"), Tries()
    scheduler.add(Entry("good", "sample.WriteNote", args=("x",), every=3_600))
    good = orjson.loads(client.hget("rq:job:entry-good", "entry"))
    odd = [None, 1, "x", "*", [], {}, [1], -1, 1e300, "Nowhere/Land", "99 99 99 99 99"]
    definitions = [orjson.dumps({**good, name: value}) for name in (*good, "owed", "next") for value in odd]
    record = client.hgetall("rq:job:entry-good")
    for at, definition in enumerate([*ODD, *definitions]):
        client.hset(f"rq:job:entry-{at}", mapping=record | {b"entry": definition})
        client.sadd(keys.ENTRIES, f"entry-{at}")
        client.zadd(keys.SCHEDULED_BY_RQ_SCHEDULER, {f"entry-{at}": at})
    client.zadd(keys.SCHEDULED_BY_RQ_SCHEDULER, {"entry-good": 1_000})
    names = {entry.name for entry in scheduler.entries()}
    for name in names - {"good"}:
        for change in (scheduler.pause, scheduler.resume, scheduler.run_now):
            tries(f"{change.__name__} {name}", change, name)
    scheduler.Scheduler("default", connection=client).enqueue_jobs()
    for name in ("jobs_recurring", "jobs_api_recurring", "jobs_dashboard_changelist"):
        tries(name, admin_client.get, reverse(f"admin:{name}"))
    tries.bad |= {finding.what: "" for finding in doctor.examine() if "could not be examined" in finding.what}

    assert tries.bad == {}
    assert "run" in [run.what for run in scheduler.get("good").runs()]


def test_changes_and_profiles_with_odd_fields_stop_no_reader(valkey):
    client, tries = get_connection("default"), Tries()
    fields = ("name", "state", "filters", "count", "more", "began", "changed", "refused", "ended")
    for name, odd in product(fields, ODD):
        client.hset(keys.change("c"), mapping={"name": "retry", "state": "dead", "began": "1", name: odd})
        client.zadd(keys.CHANGES, {"c": 1})
        tries(f"change {name} {odd[:9]}", lambda: changes.progress_of(bulk.get("c")))
        tries(f"changes {name} {odd[:9]}", bulk.recent, 100)
    whole = {"command": "c", "at": "1", "seconds": "1", "samples": "1", "ended": "e", "cut": ""}
    whole |= {"summary": zlib.compress(b"s"), "graph": zlib.compress(b"g")}
    for name, odd in product(whole, ODD):
        client.hset(keys.profile(f"{name}:1"), mapping=whole | {name: odd})
        client.zadd(keys.PROFILES, {f"{name}:1": 1, odd[:100]: 2})
        tries(f"graph {name} {odd[:9]}", profiles.flame_graph, name, 1)
        tries(f"profiles of {name} {odd[:9]}", profiles.of, client, name)
    client.hset(keys.profile("good:1"), mapping=whole)
    client.zadd(keys.PROFILES, {"good:1": 3})

    assert tries.bad == {}
    assert "good" in {each.job_id for each in profiles.recent()}


def test_a_payload_that_inflates_to_much_is_not_inflated_for_the_page_of_its_job(valkey):
    client = get_connection("default")
    client.hset(keys.job("bomb"), mapping=RECORD | {"data": zlib.compress(b"[" + b" " * 2 * payload.SHOWN)})

    assert len(find("bomb").data) == 0
