"""The releases that the workers run, and since when: the deploys."""

import pytest

from jobs import runtime
from jobs.broker.connections import get_connection
from jobs.broker.times import DAY, MINUTE
from jobs.inspection import releases, workers
from jobs.inspection.releases import Deploy

START = 1_790_000_000.0


@pytest.fixture
def clock(monkeypatch):
    """The server's clock, which the test sets."""
    seconds = [START]
    monkeypatch.setattr(runtime, "now", lambda: seconds[0])
    return seconds


def follow(clock, minutes, *running):
    """The collector follows these releases for so many minutes."""
    client = get_connection("default")
    client.delete("rq:workers", *client.keys("rq:worker:*"))
    for number, release in enumerate(running):
        client.sadd("rq:workers", f"rq:worker:{number}")
        client.hset(f"rq:worker:{number}", mapping={"queues": "default", "code_version": release})
    for _ in range(minutes):
        releases.follow_on(client, workers.listed_on(client, jobs=0))
        clock[0] += MINUTE


def test_a_release_is_deployed_when_its_first_worker_runs(valkey, clock):
    follow(clock, 10, "v1", "v1")
    follow(clock, 5, "v1", "v2")
    follow(clock, 5, "v2", "v2")
    assert releases.deploys(0) == [Deploy("v1", START), Deploy("v2", START + 10 * MINUTE)]
    assert releases.deploys(START + 1) == [Deploy("v2", START + 10 * MINUTE)]


def test_a_rollback_is_a_deploy(valkey, clock):
    follow(clock, 10, "v1")
    follow(clock, 6, "v2")
    follow(clock, 2, "v1")
    assert releases.deploys(0) == [Deploy("v2", START + 10 * MINUTE), Deploy("v1", START + 16 * MINUTE)]


def test_a_restart_and_an_outage_of_all_workers_are_none(valkey, clock):
    follow(clock, 10, "v1", "v2")
    follow(clock, 1, "v2")  # v1 restarts
    follow(clock, 5, "v1", "v2")
    follow(clock, 60)
    follow(clock, 5, "v1", "v2")
    assert {deploy.since for deploy in releases.deploys(0)} == {START}


def test_what_is_kept_is_bounded(valkey, clock, monkeypatch):
    monkeypatch.setattr(releases, "MOST", 3)
    for number in range(6):
        follow(clock, 5, f"v{number}")
    assert [deploy.release for deploy in releases.deploys(0)] == ["v3", "v4", "v5"]
    clock[0] += releases.KEPT_FOR
    follow(clock, 1, "v6", "")
    assert [deploy.release for deploy in releases.deploys(0)] == ["v6"]
    assert 14 * DAY < get_connection("default").ttl("jobs:releases") <= 15 * DAY


def test_what_is_no_time_is_no_deploy(valkey):
    get_connection("default").hset("jobs:releases", mapping={"v1": "x", "v2": b"\xff", "v3": ""})
    assert releases.deploys(1) == []
