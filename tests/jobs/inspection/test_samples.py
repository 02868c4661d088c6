"""Samples of the queues: their lengths and latencies."""

import pytest

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
