"""The doctor finds each fault that is planted, and nothing on a healthy system."""

import json
import time
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import OperationalError, connections
from django.test import override_settings

from config.queues import rq_queues
from jobs import doctor, queues, scheduler
from jobs.connections import get_connection
from jobs.doctor import Severity
from jobs.scheduler import Entry
from tests.sample.commands.notes import Fail, WriteNote

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

QUEUES = "critical,default,mailers,background,low"


def add_worker(name="w1", *, listed=QUEUES, seen=None):
    client = get_connection("default")
    at = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(seen or time.time()))
    client.hset(f"rq:worker:{name}", mapping={"queues": listed, "last_heartbeat": at, "birth": at, "state": "idle"})
    client.sadd("rq:workers", f"rq:worker:{name}")


@pytest.fixture
def healthy(valkey):
    add_worker()
    return get_connection("default")


@pytest.fixture
def config(valkey):
    """Set the server's options for one test."""
    client = valkey.client()
    before = {}

    def change(name, value):
        before.setdefault(name, client.config_get(name)[name])
        client.config_set(name, value)

    yield change
    for name, value in before.items():
        client.config_set(name, value)


def whats():
    return [finding.what for finding in doctor.examine()]


def test_nothing_is_found_on_a_healthy_system(healthy):
    WriteNote.defer("x")
    scheduler.add(Entry("hourly", WriteNote, args=("x",), every=3_600))
    assert whats() == []


def enqueue_elsewhere(client, config):
    client.sadd("rq:queues", "rq:queue:defualt")
    client.rpush("rq:queue:defualt", "x")


def wait_long(client, config):
    client.hset(WriteNote.defer("x", queue="critical").key, "enqueued_at", "2026-01-01T00:00:00.000000Z")


def pause(client, config):
    WriteNote.defer("x")
    queues.pause("default")


def lose_worker(client, config):
    client.delete("rq:worker:w1")
    client.srem("rq:workers", "rq:worker:w1")


def leave_queue(client, config):
    add_worker(listed="critical,default")


def fall_silent(client, config):
    add_worker("w2", seen=time.time() - 60)


def kill_jobs(client, config):
    for n in range(3):
        job = Fail.defer(str(n))
        client.lrem("rq:queue:default", 0, job.id)
        client.hset(job.key, mapping={"status": "failed", "reason": "RuntimeError: x"})
        client.zadd("rq:failed:default", {job.id: time.time() + 1_000})


def block_job(client, config):
    kill_jobs(client, config)
    (dead, *_) = client.zrange("rq:failed:default", 0, 0)
    WriteNote.defer("x", prereq_jobs=[dead.decode()])


def run_for_days(client, config):
    job = WriteNote.defer("x")
    client.lrem("rq:queue:default", 0, job.id)
    client.hset(job.key, mapping={"status": "started", "started_at": "2026-01-01T00:00:00.000000Z"})
    client.zadd("rq:wip:default", {f"{job.id}:w1.0": 9e9})


def stop_scheduling(client, config):
    scheduler.add(Entry("hourly", WriteNote, args=("x",), every=3_600))
    client.zadd("rq:scheduler:scheduled_jobs", {"entry-hourly": time.time() - 60})


def fail_entry(client, config):
    scheduler.add(Entry("hourly", WriteNote, args=("x",), every=3_600))
    for n in range(3):
        client.lpush("jobs:schedule:runs:entry-hourly", json.dumps({"what": "run", "id": f"r{n}", "at": n}))
        client.hset("jobs:schedule:ended:entry-hourly", f"r{n}", "dead")


def evict(client, config):
    config("maxmemory", "100mb")
    config("maxmemory-policy", "allkeys-lru")


def fill(client, config):
    config("maxmemory", str(int(client.info("memory")["used_memory"] * 1.05)))


def write_nothing(client, config):
    config("appendonly", "no")
    config("save", "")


def write_late(client, config):
    config("appendfsync", "no")


FAULTS = {
    "a misspelt queue": (enqueue_elsewhere, "1 jobs are in the queue 'defualt'", Severity.WARNING),
    "a queue behind its target": (wait_long, "The first job of the queue critical has waited", Severity.WARNING),
    "a paused queue": (pause, "The queue default is paused, and 1 jobs wait", Severity.WARNING),
    "no worker": (lose_worker, "No worker is running.", Severity.ERROR),
    "a queue without a worker": (leave_queue, "No worker serves the queue mailers.", Severity.ERROR),
    "a silent worker": (fall_silent, "The worker w2 has not been heard of for", Severity.WARNING),
    "dead jobs": (kill_jobs, "3 dead jobs; of the first 1,000: 3 RuntimeError.", Severity.NOTE),
    "a blocked job": (block_job, "1 jobs are blocked", Severity.WARNING),
    "a job that runs for days": (run_for_days, "has been running since 01 Jan", Severity.WARNING),
    "nobody schedules": (stop_scheduling, "The most overdue recurring entry is", Severity.ERROR),
    "an entry whose runs die": (fail_entry, "The last 3 runs of the recurring entry 'hourly' died.", Severity.WARNING),
    "a server that evicts": (evict, "evicts keys when it is full (maxmemory-policy allkeys-lru)", Severity.ERROR),
    "a full server": (fill, "% full.", Severity.WARNING),
    "a server without a disk": (write_nothing, "writes nothing to disk", Severity.WARNING),
    "a server that writes late": (write_late, "appendfsync no", Severity.WARNING),
}


@pytest.mark.parametrize(("plant", "what", "severity"), FAULTS.values(), ids=FAULTS)
def test_each_planted_fault_is_found(plant, what, severity, healthy, config):
    plant(healthy, config)
    (finding,) = [finding for finding in doctor.examine() if what in finding.what]
    assert finding.severity == severity
    assert finding.why
    assert finding.mend


def test_a_server_that_does_not_answer(tmp_path):
    with override_settings(RQ_QUEUES=rq_queues(f"unix://{tmp_path}/none.sock")):
        (finding,) = doctor.examine()
    assert "none.sock does not answer" in finding.what


def test_a_clock_that_differs(healthy, monkeypatch):
    real = time.time
    monkeypatch.setattr("jobs.doctor.time.time", lambda: real() + 10)
    assert any("This machine's clock is 10 s ahead of" in what for what in whats())


def test_a_database_that_is_down(healthy, monkeypatch):
    def down():
        raise OperationalError("connection refused\nmore")

    monkeypatch.setattr(connections["default"], "ensure_connection", down)
    assert whats()[0] == "The database 'default' cannot be reached: connection refused"


@pytest.mark.parametrize(("plant", "status"), [(None, 0), (kill_jobs, 0), (fall_silent, 1), (lose_worker, 2)])
def test_the_command_ends_with_the_worst_severity(plant, status, healthy, config):
    if plant:
        plant(healthy, config)
    said = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("jobs_doctor", stdout=said)
    assert ended.value.code == status
    assert ("All is well." in said.getvalue()) == (plant is None)


def test_as_json(healthy, config):
    lose_worker(healthy, config)
    said = StringIO()
    with pytest.raises(SystemExit):
        call_command("jobs_doctor", json=True, stdout=said)
    (finding,) = json.loads(said.getvalue())
    assert finding["severity"] == "error"
    assert finding["what"] == "No worker is running."
    assert "rqworker" in finding["mend"]
