"""Samples of the queues: their lengths and latencies."""

import pytest

from jobs import runtime
from jobs.broker.connections import get_connection
from jobs.commands.collect_metrics import CollectMetrics
from jobs.inspection import samples
from tests.sample.commands.notes import WriteNote


def test_a_queues_length_and_latency(valkey):
    jobs = WriteNote.defer_many([("x",)] * 3, queue="low")
    get_connection("low").hset(jobs[0].key, "enqueued_at", "2026-01-01T00:00:00.000000Z")

    found = samples.measure()

    assert list(found) == ["critical", "default", "mailers", "background", "low"]
    assert found["critical"] == samples.Sample(0, 0.0)
    assert found["low"].length == 3
    assert found["low"].latency > 86_400


@pytest.mark.parametrize("broken", ["a deleted job", "no time"])
def test_a_first_job_that_cannot_be_read_has_no_latency(broken, valkey):
    job = WriteNote.defer("x")
    if broken == "a deleted job":
        get_connection("default").delete(job.key)
    else:
        get_connection("default").hdel(job.key, "enqueued_at")
    assert samples.measure()["default"] == samples.Sample(1, 0.0)


def test_a_sample_is_kept_for_its_minute_also_by_the_collector_of_earlier_releases(valkey):
    WriteNote.defer_many([("x",)] * 3)
    CollectMetrics.run()

    client = valkey.client()
    (key,) = client.keys("jobs:samples:*")
    assert client.hget(key, "default").split()[0] == b"3"
    assert 72 * 3_600 < client.ttl(key) <= 73 * 3_600


def test_the_last_minutes_have_the_longest_wait_and_the_threads(valkey, one_minute):
    minute = int(runtime.now()) // 60
    client = get_connection("default")
    client.hset(
        f"jobs:samples:{minute - 1}", mapping={"low": "3 40.5", "default": "9 7", "|threads": "3 10", "x": b"\xff"}
    )
    client.hset(f"jobs:samples:{minute - 3}", "low", "1 1")
    found = samples.last(3)
    assert [each.start for each in found] == [(minute - ago) * 60 for ago in (2, 1, 0)]
    assert [each.longest for each in found] == [(0.0, ""), (40.5, "low"), (0.0, "")]
    assert [(each.busy, each.threads) for each in found] == [(0, 0), (3, 10), (0, 0)]


def test_the_threads_of_the_workers_are_sampled(valkey, one_minute):
    for name, busy in (("a", 2), ("b", 1)):
        valkey.client().sadd("rq:workers", f"rq:worker:{name}")
        valkey.client().hset(f"rq:worker:{name}", mapping={"queues": "low", "threads": 5, "running": busy})
    samples.collect()
    assert (samples.last(1)[0].busy, samples.last(1)[0].threads) == (3, 10)
