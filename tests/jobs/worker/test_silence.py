"""Nobody has been heard for long: the server was away, or its clock was set. The living are waited for."""

import os

import pytest

from jobs.broker.connections import get_connection
from jobs.broker.times import SILENCE, UNSEEN
from jobs.worker import heartbeat
from jobs.worker.connection import Wire
from jobs.worker.recovery import is_silence, recover
from jobs.worker.scoreboard import Board
from tests.sample.commands.notes import WriteNote

YEAR = 365 * 86_400


@pytest.fixture
def job(new_fetch):
    """A job that the worker `living` runs."""
    job = WriteNote.defer("x")
    new_fetch("living")._step(claims=True)
    assert job.state == "running"
    beat("living")
    return job


def beat(name):
    heartbeat.beat(Wire("default"), name, os.getpid(), 0.0, ["default"], Board(1))


def recovered():
    return [job_id for job_id, _ in recover(Wire("default"), "default").given_back]


def pass_time(seconds):
    """All that the server has noted is as old as if so many seconds had passed without anybody."""
    client = get_connection("default")
    for name, at in client.zrange("jobs:workers", 0, -1, withscores=True):
        client.zadd("jobs:workers", {name: at - seconds})
    client.set("jobs:heard", repr(float(client.get("jobs:heard")) - seconds))


@pytest.mark.parametrize("begins", ["beat", "recovery"])
@pytest.mark.parametrize("seconds", [UNSEEN + 1, YEAR, -YEAR], ids=["outage", "clock ahead", "clock set back"])
def test_a_newcomer_takes_nobodys_jobs_until_the_living_could_be_heard(job, begins, seconds):
    pass_time(seconds)
    if begins == "beat":
        beat("newcomer")
    assert recovered() == []
    assert is_silence(Wire("default"))
    assert 0 < get_connection("default").ttl("jobs:silence") <= SILENCE

    beat("living")
    get_connection("default").delete("jobs:silence")  # it is over
    assert recovered() == []
    assert job.state == "running"


@pytest.mark.parametrize("seconds", [UNSEEN + 1, -YEAR], ids=["outage", "clock set back"])
def test_who_is_not_heard_then_is_dead(job, seconds):
    pass_time(seconds)
    beat("newcomer")
    get_connection("default").delete("jobs:silence")
    assert recovered() == [job.id]


def test_the_dead_are_not_waited_for_while_others_beat(job):
    get_connection("default").zadd("jobs:workers", {"living": 1})
    beat("another")
    assert recovered() == [job.id]


def test_nobody_is_waited_for_where_no_worker_is_listed(job):
    pass_time(UNSEEN + 1)
    heartbeat.unregister(Wire("default"), "living", ["default"])
    assert recovered() == [job.id]


def test_a_silence_does_not_keep_a_parent_from_what_its_own_child_held(job):
    pass_time(UNSEEN + 1)
    beat("newcomer")
    assert [job_id for job_id, _ in recover(Wire("default"), "default", only="living").given_back] == [job.id]


def test_workers_are_forgotten_by_the_servers_clock(job, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 9e9)
    assert heartbeat.forgotten(Wire("default")) == []
    pass_time(heartbeat.FORGOTTEN + 1)
    assert heartbeat.forgotten(Wire("default")) == [b"living"]


def test_a_burst_waits_for_the_end_of_a_silence(job, worker_process):
    """It would be gone before anybody may be taken for dead."""
    pass_time(UNSEEN + 1)
    worker_process("default", burst=True, env={"DJANGO_SETTINGS_MODULE": "tests.faulty", "SILENCE": "3"}).wait()
    assert job.state == "finished"


@pytest.fixture
def full_server(valkey):
    with valkey.client() as client:
        client.config_set("maxmemory", 1)
        yield
        client.config_set("maxmemory", 0)


def test_on_a_full_server_the_living_beat_and_the_dead_are_recovered(job, full_server):
    before = get_connection("default").zscore("jobs:workers", "living")
    beat("living")
    assert get_connection("default").zscore("jobs:workers", "living") > before
    assert recovered() == []
    get_connection("default").zrem("jobs:workers", "living")
    assert recovered() == [job.id]
