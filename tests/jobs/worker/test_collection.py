"""The collector of the figures: a duty of the parent, which no queue delays."""

import pytest

from jobs import runtime
from jobs.broker.connections import get_connection
from jobs.inspection import releases, samples
from jobs.worker.collection import Collection
from jobs.worker.connection import Wire
from tests.processes import wait_until
from tests.sample.commands.long import Patient
from tests.sample.commands.notes import WriteNote


@pytest.fixture
def collecting(settings):
    settings.JOBS = {**settings.JOBS, "COLLECT_METRICS": True}


@pytest.fixture
def clock(monkeypatch):
    """The server's clock, which the test sets: `clock[0] += 60`."""
    seconds = [runtime.now() // 3_600 * 3_600 + 30]
    monkeypatch.setattr(runtime, "now", lambda: seconds[0])
    return seconds


def new():
    return Collection("default", Wire("default"))


def sampled():
    return len(get_connection("default").keys("jobs:samples:*"))


def test_it_collects_once_a_minute(valkey, collecting, clock):
    collection = new()
    for _ in range(3):
        collection.run()
    assert sampled() == 1
    clock[0] += 60
    collection.run()
    assert sampled() == 2


def test_one_worker_at_a_time_does_it_and_any_other_after_it(valkey, collecting, clock):
    first, second = new(), new()
    first.run()
    get_connection("default").delete(*get_connection("default").keys("jobs:samples:*"))
    second.run()
    assert sampled() == 0  # the other one has this minute
    get_connection("default").delete("jobs:lease:figures")  # as it expires, once the first has died
    clock[0] += 60
    second.run()
    assert sampled() == 1


def test_an_hour_that_has_ended_is_summed_up_and_digested(valkey, collecting, clock):
    client = get_connection("default")
    client.hset(f"jobs:counts:{int(clock[0]) // 60 - 30}", "low|a.B|finished|10", 4)
    collection = new()
    for _ in range(200):
        collection.run()
    hour = int(clock[0]) // 3_600 - 1
    assert client.hget(f"jobs:counts:hour:{hour}", "low|a.B|finished|10") == b"4"
    assert client.hget(f"jobs:digest:{hour}", "command|a.B").startswith(b"4 0 0 ")


def test_a_sample_that_cannot_be_written_is_tried_again(valkey, collecting, clock, monkeypatch):
    collection = new()
    monkeypatch.setattr("jobs.inspection.samples.collect_on", lambda client, alive: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        collection.run()
    monkeypatch.undo()
    monkeypatch.setattr(runtime, "now", lambda: clock[0])
    collection.run()
    assert sampled() == 1


def test_it_is_switched_off_by_the_setting(valkey, clock):
    new().run()
    assert sampled() == 0


@pytest.mark.processes
def test_a_worker_collects_while_its_lowest_queue_is_starved(worker_process, settings, tmp_path):
    """In an incident the collector, a job of the lowest queue, expired with the queues that it was to measure."""
    WriteNote.defer_many([("x",)] * 3, queue="low")
    get_connection("low").sadd("jobs:paused", "low")  # nothing of this queue is run
    worker_process("low", env={"JOBS_COLLECT": "1"})
    wait_until(lambda: sampled())
    (key,) = get_connection("low").keys("jobs:samples:*")[:1]
    assert get_connection("low").hget(key, "low").startswith(b"3 ")


@pytest.mark.slow
@pytest.mark.processes
def test_a_worker_collects_while_all_its_threads_are_busy(worker_process, tmp_path):
    jobs = [Patient.defer(str(tmp_path / f"started {n}"), str(tmp_path / "release")) for n in range(2)]
    worker_process("default", "low", concurrency=2, env={"JOBS_COLLECT": "1"})
    wait_until(lambda: all(job.state == "running" for job in jobs))
    WriteNote.defer_many([("x",)] * 3, queue="low")
    client = get_connection("low")
    wait_until(lambda: any(minute.waits.get("low") and minute.busy == 2 for minute in samples.last(3)), timeout=130)
    assert client.llen("rq:queue:low") == 3
    assert len(releases.deploys(0)) == 1
    (tmp_path / "release").touch()
