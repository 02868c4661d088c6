"""The worker's parent removes expired jobs from their registries, even if nobody reads them."""

import time

import django_rq
import pytest

from jobs.broker.connections import get_connection
from jobs.worker.connection import Wire
from jobs.worker.expiry import clean
from tests.jobs.worker import eventually
from tests.sample import functions

QUEUES = ["default", "low"]


@pytest.mark.parametrize("registry", ["finished", "failed", "canceled"])
def test_expired_jobs_are_struck_off_and_others_stay(registry, valkey):
    client = get_connection("default")
    key = f"rq:{registry}:low"
    client.zadd(key, {f"old-{n}": 1 + n for n in range(2_500)})
    client.zadd(key, {"fresh": time.time() + 60})
    if registry == "failed":
        client.zadd(key, {"for ever": -1})  # RQ's failure_ttl = -1
    for _ in range(3):  # a slow machine has time for one slice a turn
        clean(Wire("default"), QUEUES)

    assert set(client.zrange(key, 0, -1)) == {b"fresh"} | ({b"for ever"} if registry == "failed" else set())


def test_a_job_cancelled_by_rq_is_kept_for_a_day(valkey, places):
    job = django_rq.get_queue("default").enqueue(functions.add, 1, 2)
    job.cancel()
    client = get_connection("default")
    assert client.ttl(job.key) == -1
    clean(Wire("default"), QUEUES)

    assert client.ttl(job.key) == pytest.approx(86_400, abs=5)
    assert places() == {job.id: ["canceled:default"]}
    client.delete(job.key)
    client.zadd("rq:canceled:default", {job.id: 1})
    clean(Wire("default"), QUEUES)
    assert places() == {}


@pytest.mark.processes
def test_a_parent_removes_expired_jobs(worker_process):
    client = get_connection("default")
    client.zadd("rq:finished:default", {"old": 1})
    worker_process("default")
    eventually(lambda: client.zcard("rq:finished:default") == 0)
