"""What concerns thousands of jobs is done in slices, between which the server and the parents do other things."""

import time

import pytest

from jobs import control
from jobs.broker.connections import get_connection
from jobs.job import MandateJob
from jobs.worker import parent as parent_module
from jobs.worker.parent import Parent
from jobs.worker.release import SLICE, release
from jobs.worker.settings import WorkerSettings
from tests.sample.commands.notes import WriteNote


@pytest.fixture
def calls(monkeypatch):
    """The answers of `change.lua`, call by call."""
    answers, run_script = [], control.run_script

    def run(*words):
        answers.append(run_script(*words))
        return answers[-1]

    monkeypatch.setattr(control, "run_script", run)
    return answers


def handles(ids):
    client = get_connection("default")
    return [MandateJob.handle(job_id, queue="default", payload=b"[]", connection=client) for job_id in ids]


def test_jobs_far_apart_in_a_long_queue_are_changed_by_a_call_for_each_part(calls, valkey):
    """No call goes through all of the queue, and none goes through it for each job."""
    client = get_connection("default")
    client.rpush("rq:queue:default", *[f"job{n}" for n in range(50_000)])
    far_apart = [f"job{n}" for n in range(0, 50_000, 5_000)]
    for job_id in far_apart:
        client.hset(f"rq:job:{job_id}", mapping={"status": "queued", "origin": "default"})

    assert control.change_all("cancel", handles(far_apart)) == [None] * 10
    assert client.llen("rq:queue:default") == 50_000 - 10
    assert client.zcard("rq:canceled:default") == 10
    assert 1 < len(calls) <= 10


@pytest.mark.parametrize("places", [[0], [49_999], [25_000], [49_999, 49_500, 49_990], [25_000, 25_010], [60_000, 3]])
def test_jobs_at_either_end_and_in_the_middle_of_a_long_queue_are_changed(places, valkey):
    """The last of the places is one that the queue does not have: a job whose id was lost."""
    client = get_connection("default")
    client.rpush("rq:queue:default", *[f"job{n}" for n in range(50_000)])
    wanted = [f"job{n}" for n in places]
    for job_id in wanted:
        client.hset(f"rq:job:{job_id}", mapping={"status": "queued", "origin": "default"})
    assert control.change_all("cancel", handles(wanted)) == [None] * len(wanted)
    assert client.lrange("rq:queue:default", 0, -1) == [b"job%d" % n for n in range(50_000) if n not in places]
    assert client.zcard("rq:canceled:default") == len(wanted)


@pytest.mark.parametrize("change", ["cancel", "retry"])
def test_jobs_with_many_prerequisites_each_are_changed_some_a_call(change, calls, valkey):
    firsts = WriteNote.defer_many([(str(n),) for n in range(150)], queue="low")
    jobs = WriteNote.defer_many([(str(n),) for n in range(6)], prereq_jobs=firsts)
    control.change_all("cancel", jobs)
    if change == "retry":
        calls.clear()
        control.change_all("retry", jobs)
    assert [job.state for job in jobs] == ["cancelled" if change == "cancel" else "waiting"] * 6
    assert len(calls) == 3
    assert len(get_connection("default").keys("jobs:dependents:*")) == (0 if change == "cancel" else 150)


@pytest.mark.parametrize("known", [True, False], ids=["by their time", "looked through"])
def test_claims_of_cancelled_jobs_are_found_among_thousands(known, new_fetch, valkey):
    jobs = WriteNote.defer_many([(str(n),) for n in range(3)])
    new_fetch("w", threads=3)._step(claims=True)
    client = get_connection("default")
    client.zadd("rq:wip:default", {f"other{n}:v.{n}": 9e9 + n for n in range(2_000)})
    if not known:  # RQ's code writes another time
        for job in jobs:
            client.hset(job.key, "started_at", "2020-01-01T00:00:00.000000Z")
    assert control.change_all("cancel", jobs) == [None] * 3
    assert client.zcard("rq:wip:default") == 2_000
    assert [job.state for job in jobs] == ["cancelled"] * 3


def test_claims_that_are_searched_for_are_found_slice_by_slice(calls, new_fetch, valkey):
    """RQ's code has written another time than the claim's, in two queues; other workers hold thousands of claims."""
    jobs = WriteNote.defer_many([(str(n),) for n in range(3)]) + WriteNote.defer_many([("low",)], queue="low")
    new_fetch("w", threads=4)._step(claims=True)
    gone = WriteNote.defer("its claim is gone")
    client = get_connection("default")
    client.lrem("rq:queue:default", 0, gone.id)
    for queue in ("default", "low"):
        client.zadd(f"rq:wip:{queue}", {f"other{n}:v.{n}": 10e9 + n for n in range(7_000)})
        client.zadd(f"rq:wip:{queue}", {f"tied{n}:v.{n}": 10e9 for n in range(100)})
    for job in [*jobs, gone]:
        client.hset(job.key, mapping={"started_at": "2020-01-01T00:00:00.000000Z", "status": "started"})
    assert control.change_all("cancel", [*jobs, gone]) == [None] * 5
    assert [client.zcard(f"rq:wip:{queue}") for queue in ("default", "low")] == [7_100, 7_100]
    assert 4 < len(calls) < 20


def test_a_parent_releases_what_fits_into_a_moment(valkey):
    (first,) = WriteNote.defer_many([("first",)])
    WriteNote.defer_many([(str(n),) for n in range(2 * SLICE)], prereq_jobs=[first])
    client, members = get_connection("default"), f"jobs:dependents:{first.id}"
    client.hset(first.key, "status", "finished")
    client.sadd("jobs:releasing", members)
    release(client, members, until=0.0)
    assert client.scard(members) == SLICE
    release(client, members)
    assert not client.exists(members, "jobs:releasing")


def test_a_parent_that_has_more_to_release_beats_and_goes_on_at_once(monkeypatch, valkey):
    first = WriteNote.defer("first")
    WriteNote.defer_many([(str(n),) for n in range(3 * SLICE)], prereq_jobs=[first])
    client, members = get_connection("default"), f"jobs:dependents:{first.id}"
    client.hset(first.key, "status", "finished")
    client.sadd("jobs:releasing", members)
    parent, beats = Parent(WorkerSettings(queues={"default": None}, concurrency=1, processes=1)), []
    monkeypatch.setattr(parent, "_beat", lambda: beats.append(client.scard(members)))
    monkeypatch.setattr(parent_module, "LONGEST", -1.0)
    for _ in range(2):
        parent._next_beat = 0.0
        parent._do_what_is_due(time.monotonic())
        assert parent._next_tick == 0.0
    monkeypatch.setattr(parent_module, "LONGEST", 60.0)
    parent._do_what_is_due(time.monotonic())
    assert parent._next_tick > 0.0
    assert beats == [2 * SLICE, SLICE]
    assert not client.exists(members, "jobs:releasing")
