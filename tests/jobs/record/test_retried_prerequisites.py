"""What a person, or RQ, brings back does not run past its prerequisites; and what ends with its job."""

import time

import django_rq
import pytest

from jobs import control, queues
from jobs.broker.connections import get_connection
from jobs.worker.connection import Wire
from jobs.worker.recovery import recover
from jobs.worker.release import release
from tests.sample.commands.acts import Act, ActForgotten
from tests.sample.commands.limits import Fresh, Once
from tests.sample.commands.notes import Fail, WriteNote
from tests.sample.commands.trouble import Again, Ruled, TroubleTwice
from tests.sample.functions import add

pytestmark = pytest.mark.django_db(transaction=True)


def defer(*first, **options):
    return WriteNote.defer("after", prereq_jobs=first, **options)


# --- prerequisites ---------------------------------------------------------------------------


def test_one_that_was_cancelled_while_it_waited_goes_on_waiting(worker, places):
    done, first = WriteNote.defer("1"), WriteNote.defer("2", wait=60)
    job = defer(done, first)
    worker.run()
    control.cancel(job)
    assert get_connection("default").keys("jobs:waits:*") == []
    control.retry(job)

    assert job.state == "waiting"
    assert places()[job.id] == ["deferred:default"]
    assert first.dependents == {job.id}
    worker.run()
    assert job.state == "waiting"
    worker.hurry().run()
    assert job.state == "finished"


def test_it_runs_at_once_if_that_is_done_by_now(worker):
    first = WriteNote.defer("1")
    job = defer(first, wait=3_600)
    control.cancel(job)
    worker.run()
    control.retry(job)
    assert job.state == "queued"


@pytest.mark.parametrize(("failure", "state"), [("wait", "blocked"), ("run", "queued")])
def test_it_still_knows_whether_a_bad_end_will_do(failure, state, worker):
    first = Fail.defer()
    job = defer(first, prereq_failure=failure)
    control.cancel(job)
    worker.run()
    control.retry(job)
    assert job.state == state


def test_who_follows_a_job_that_is_revived_before_they_are_released_waits_for_its_next_end(worker, monkeypatch):
    monkeypatch.setattr("tests.jobs.conftest.release", lambda client, member: None)  # the worker dies here
    first = TroubleTwice.defer(times=3)
    follower = defer(first, prereq_failure="run")
    for _ in range(3):
        worker.hurry().run()
    assert first.state == "dead"
    (member,) = worker.client.smembers("jobs:releasing")
    control.retry(first)
    late = defer(first, prereq_failure="run")

    release(worker.client, member)
    assert (follower.state, late.state) == ("waiting", "waiting")
    assert worker.client.smembers("jobs:releasing") == set()
    monkeypatch.undo()
    worker.run()
    assert [job.state for job in (first, follower, late)] == ["finished"] * 3


# --- expiry and locks ------------------------------------------------------------------------


def test_a_dead_job_that_rq_requeues_does_not_expire(worker):
    job = Fresh.defer()
    client = get_connection("default")
    data = client.hget(job.key, "data")
    client.hset(job.key, "data", b"{")
    worker.run()
    assert job.state == "dead"
    client.hset(job.key, "data", data)
    if client.hexists(job.key, "expires_at"):  # its time has passed
        client.hset(job.key, "expires_at", repr(time.time() - 1))
    queues.get_queue("default").failed_job_registry.requeue(job.id)
    worker.run()
    assert job.state == "finished"


def test_an_unfinished_unique_job_is_run_now_whoever_has_the_lock_since_its_time_was_over(worker):
    first = Once.defer(7, wait=3_600)
    get_connection("default").delete(*get_connection("default").keys("jobs:unique:*"))
    second = Once.defer(7)
    control.run_now(first)

    assert (first.state, second.state) == ("queued", "queued")
    assert Once.defer(7).id == second.id


# --- what ends with its job ------------------------------------------------------------------


def discard(job, worker):
    get_connection("default").hset(
        job.key, "data", get_connection("default").hget(job.key, "data").replace(b"flaky", b"hopeless")
    )
    worker.hurry().run()


ENDS = {
    "finished": lambda job, worker: worker.hurry().run(),
    "discarded": discard,
    "cancelled": lambda job, worker: control.cancel(job),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_errors_of_earlier_attempts_are_kept_as_long_as_the_job(end, worker):
    job = Ruled.defer("flaky", times=1 if end == "finished" else 2)
    worker.run()
    client = get_connection("default")
    assert (client.ttl(job.key), client.ttl(f"rq:results:{job.id}")) == (-1, -1)
    ENDS[end](job, worker)

    assert job.state == end
    assert len(job.results()) >= 1
    assert client.ttl(job.key) > 0
    assert client.ttl(f"rq:results:{job.id}") == pytest.approx(client.ttl(job.key), abs=2)


def test_a_requeue_does_not_show_the_reason_of_an_earlier_failure(worker):
    job = Again.defer()
    get_connection("default").hset(job.key, "reason", "RuntimeError: the last time")
    worker.run()
    assert (job.state, job.reason) == ("scheduled", None)


def test_a_poisoned_job_begins_afresh_too(worker):
    job = TroubleTwice.defer()
    worker.run()
    for _ in range(3):
        worker.hurry().promotion.run(["default"])
        worker.claim()
        worker.fetch.held.clear()
        recover(Wire("default"), "default", only="inline")
    assert (job.state, job.reason) == ("dead", "poison")
    assert job.connection.hget(job.key, "progress") is None


def test_what_is_forgotten_at_once_is_kept_a_minute_for_plain_jobs_and_its_errors_no_longer(worker, monkeypatch):
    plays = [lambda: 1 / 0, lambda: None]
    monkeypatch.setattr(Act, "play", staticmethod(lambda command: plays.pop(0)()), raising=False)
    job = ActForgotten.defer()
    django_rq.get_queue("low").enqueue(add, 2, 3, depends_on=job)
    worker.run()
    worker.hurry().promotion.run(["default"])
    monkeypatch.setattr("tests.jobs.conftest.release", lambda client, member: None)  # what follows is RQ's
    worker.step()
    client = get_connection("default")
    assert 0 < client.ttl(f"rq:results:{job.id}") <= client.ttl(job.key) <= 60
