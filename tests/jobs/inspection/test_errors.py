"""Errors by their fingerprints: what is alike, how often, and what became of the jobs that were retried."""

import json

import pytest

from jobs import bulk
from jobs.attempts.reasons import reason_of
from jobs.broker.connections import get_connection
from jobs.broker.times import HOUR
from jobs.inspection import Count, JobQuery, error_counts, fingerprints
from jobs.inspection.error_counts import Became
from jobs.inspection.fingerprints import without_numbers
from jobs.job import JobState
from tests.sample.commands.notes import Fail, WriteNote

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("message", "alike"),
    [
        ("order 41 of 7 failed", "order N of N failed"),
        ("<Thing object at 0x7f3c94688cd0>", "<Thing object at N>"),
        ("job 87e39043-d991-4013-809c-fb6388507880 is late", "job N is late"),
        ("commit 0123456789abcdef", "commit N"),
        ("first line\nsecond 2", "first line"),
        ("", ""),
        ("deadbeef is a word", "deadbeef is a word"),
        ("token='hunter2'", "token=[filtered]"),
        ("x" * 5_000, "x" * 200),
    ],
)
def test_messages_are_compared_without_their_numbers(message, alike):
    assert without_numbers(message) == alike


def fingerprint_of(call):
    try:
        call()
    except Exception as error:
        return fingerprints.of(error, reason_of(error))


def in_a_library():
    json.loads("{")


def test_the_frame_is_the_innermost_of_the_projects_code():
    assert fingerprint_of(in_a_library).frame == f"{__name__}:in_a_library"
    assert fingerprint_of(in_a_library).error == "JSONDecodeError"
    assert fingerprints.own_frame(None) == ""


def test_what_is_alike_has_one_fingerprint():
    def fail(number):
        raise ValueError(f"order {number}")

    def fail_elsewhere(number):
        raise ValueError(f"order {number}")

    def fail_otherwise(number):
        raise KeyError(f"order {number}")

    first = fingerprint_of(lambda: fail(1))
    assert fingerprint_of(lambda: fail(27)).id == first.id
    assert fingerprint_of(lambda: fail_elsewhere(1)).id != first.id
    assert fingerprint_of(lambda: fail_otherwise(1)).id != first.id


def test_each_failure_is_counted_once_and_names_its_job(worker, settings):
    settings.JOBS = {**settings.JOBS, "VERSION": "v1"}
    Fail.defer("order 1")
    worker.run()
    settings.JOBS = {**settings.JOBS, "VERSION": "v2"}
    last = Fail.using(queue="low").defer("order 22")
    Fail.defer("something else")
    WriteNote.defer("x")
    worker.run()
    groups = {group.message: group for group in error_counts.recent()}
    assert set(groups) == {"order N", "something else"}
    group = groups["order N"]
    assert (group.error, group.frame, group.count) == ("RuntimeError", "tests.sample.commands.notes:Fail.call", 2)
    assert (group.first_release, group.release) == ("v1", "v2")
    assert group.job_id in {last.id, *(row.id for row in JobQuery(state=JobState.DEAD).page().rows)}
    assert sum(group.trend) == group.commands["sample.Fail"] == 2
    assert {row.id for row in JobQuery(state=JobState.DEAD, fingerprint=group.id).page().rows} >= {last.id}
    assert error_counts.by_command(HOUR) == {"sample.Fail": {"RuntimeError": 3}}
    assert error_counts.get("nobody") is None


def test_a_successful_attempt_sends_nothing_more(worker, monkeypatch):
    monkeypatch.setattr(error_counts, "record", lambda *about: 1 / 0)
    job = WriteNote.defer("x")
    worker.run()
    assert job.state is JobState.FINISHED


def test_a_server_that_does_not_count_changes_no_outcome(worker, monkeypatch):
    get_connection("default").set("jobs:errors", "no sorted set")
    job = Fail.defer("x")
    worker.run()
    assert job.state is JobState.DEAD
    assert error_counts.recent()[0].count == 1  # the key was put aside
    monkeypatch.setattr(error_counts, "record", lambda *about: 1 / 0)
    job = Fail.defer("x")
    worker.run()
    assert job.state is JobState.DEAD


def test_a_server_keeps_some_fingerprints_and_the_oldest_go(worker, monkeypatch):
    monkeypatch.setattr(error_counts, "MOST", 3)
    for name in ("one", "two", "three", "four", "five"):
        Fail.defer(name)
        worker.run()
    assert [group.message for group in error_counts.recent()] == ["five", "four", "three"]
    assert len(get_connection("default").keys("jobs:error:*")) == 3


def test_what_became_of_the_jobs_that_were_retried(worker):
    client = get_connection("default")
    jobs = Fail.defer_many([("x",)] * 4)
    worker.run()
    (group,) = error_counts.recent()
    error_counts.follow(client, group.id, [job.id for job in jobs], anew=True)
    client.hset(jobs[0].key, "status", "finished")
    client.delete(jobs[1].key)  # finished, and its record has expired
    jobs[2].delete()
    assert error_counts.became([group.id]) == {group.id: Became(passed=2, failed=1, gone=1)}
    assert error_counts.get(group.id).retried_at is not None
    error_counts.follow(client, group.id, [jobs[3].id], anew=True)
    assert error_counts.became([group.id])[group.id].total == 1
    assert error_counts.became([]) == {}


def test_a_bulk_retry_of_an_error_is_followed(worker):
    for message in ("order 1", "order 2", "other"):
        Fail.defer(message)
    worker.run()
    group = next(group for group in error_counts.recent() if group.message == "order N")
    bulk.start("retry", "dead", {"fingerprint": group.id}, Count(2))
    worker.step()
    assert error_counts.became([group.id])[group.id] == Became(pending=2)
    worker.run()
    assert error_counts.became([group.id])[group.id] == Became(failed=2)


def test_a_bulk_retry_that_goes_on_after_its_worker_died_is_followed_on(worker, monkeypatch):
    monkeypatch.setattr("jobs.inspection.query.CHUNK", 2)
    monkeypatch.setattr("jobs.inspection.query.SEARCHED_AT_ONCE", 2)
    Fail.defer_many([("order 1",)] * 6)
    worker.run()
    (group,) = error_counts.recent()
    change = bulk.start("retry", "dead", {"fingerprint": group.id}, Count(6))
    search, follow, calls = f"fingerprint:{group.id}", bulk.follow, iter(range(1))

    def die(*args, **options):
        if next(calls, None) is None:
            raise SystemExit
        follow(*args, **options)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(bulk, "follow", die)
        bulk.carry_out(change.id, "retry", "dead", {}, search)
    bulk.carry_out(change.id, "retry", "dead", {}, search)

    # Two before the worker died, none of the two that it changed as it died, and the two that were left.
    assert error_counts.became([group.id])[group.id].total == 4
