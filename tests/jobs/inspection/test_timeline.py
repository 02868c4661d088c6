"""A job's timeline, built from events, results and times."""

from datetime import UTC, datetime, timedelta

import pytest

from jobs import control
from jobs.broker.connections import get_connection
from jobs.inspection import timeline
from jobs.inspection.timeline import FailedAttempt, build
from jobs.record.history import Event
from tests.sample.commands.notes import WriteNote
from tests.sample.commands.trouble import Again, TroubleTwice

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds):
    return START + timedelta(seconds=seconds)


def event(name, seconds, worker="", reason=""):
    return Event(name=name, at=at(seconds), worker=worker, reason=reason)


def summaries(steps):
    return [(step.name, step.seconds if step.is_attempt else "-", step.worker, bool(step.traceback)) for step in steps]


def test_attempts_have_their_ends():
    events = [
        event("queued", 0),
        event("failed", 12, "a", "RuntimeError: one"),
        event("retried", 12, reason="due"),
        event("interrupted", 40, "b"),
        event("failed", 65, "c", "RuntimeError: two"),
        event("retried", 65, reason="due"),
        event("started", 80),
        event("finished", 83),
    ]
    failed = [
        FailedAttempt(at(10), at(12.1), "a", "Traceback one"),
        FailedAttempt(at(60), at(65.2), "c", "Traceback two"),
    ]
    assert summaries(build(events, failed, at(80), "d")) == [
        ("queued", "-", "", False),
        ("failed", pytest.approx(2.1), "a", True),
        ("retried", "-", "", False),
        ("interrupted", None, "b", False),
        ("failed", pytest.approx(5.2), "c", True),
        ("retried", "-", "", False),
        ("finished", 3.0, "d", False),
    ]


def test_a_running_attempt_has_no_end_yet():
    steps = build([event("queued", 0), event("started", 5)], [], at(5), "a")
    assert summaries(steps) == [("queued", "-", "", False), ("running", None, "a", False)]


def test_a_failed_attempt_without_a_result_has_only_its_end():
    events = [event("queued", 0), event("failed", 3, "a", "RuntimeError: old"), event("failed", 9, "b", "new")]
    steps = build(events, [FailedAttempt(at(8), at(9), "b", "Traceback")], at(7))
    assert [(step.reason, step.seconds) for step in steps[1:]] == [("RuntimeError: old", None), ("new", 1.0)]


def test_a_requeue_just_before_is_not_the_end_of_the_next_attempt():
    steps = build([event("requeued", 9.8, "a"), event("started", 10), event("finished", 11)], [], at(10), "b")
    assert summaries(steps) == [("requeued", None, "a", False), ("finished", 1.0, "b", False)]


def test_poison_is_an_end(worker):
    steps = build(
        [event("interrupted", 20, "a"), event("poisoned", 20, "a")], [FailedAttempt(at(20.4), at(20.4), "a", "T")], None
    )
    assert [step.name for step in steps] == ["interrupted", "poisoned"]


@pytest.mark.django_db(transaction=True)
def test_the_timeline_of_a_real_job(worker):
    job = TroubleTwice.defer("flaky", 2)
    worker.run()
    for _ in range(2):
        worker.hurry().run()
    steps = timeline.of(job)
    assert [step.name for step in steps] == ["queued", "failed", "retried", "failed", "retried", "finished"]
    assert {step.worker for step in steps if step.is_attempt} == {"inline"}
    assert all(step.seconds is not None for step in steps if step.is_attempt)
    assert [step.reason for step in steps if step.name == "failed"] == ["FlakyError: as planned"] * 2


@pytest.mark.django_db(transaction=True)
def test_the_timelines_of_a_requeued_and_a_cancelled_job(worker):
    job = Again.defer()
    worker.run()
    control.cancel(job)
    assert [step.name for step in timeline.of(job)] == ["queued", "requeued", "cancelled"]
    assert timeline.of(job)[1].seconds is not None


@pytest.mark.django_db(transaction=True)
def test_results_that_cannot_be_read_are_left_out():
    job = WriteNote.defer("x")
    get_connection("default").xadd(f"rq:results:{job.id}", {"type": "2", "exc_string": "torn"})
    get_connection("default").hset(job.key, "started_at", "soon")
    assert [step.name for step in timeline.of(job)] == ["queued"]
