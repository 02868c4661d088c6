"""All submissions of an exercise anew, by one job that is stopped and killed on its way."""

import pytest

from jiki import sandbox
from jiki.commands.recheck_batch import RecheckBatch
from jiki.models import Batch, Submission
from jobs.job import JobState
from tests.jiki.commands.test_process_batch import SUBMISSIONS, assert_done_once
from tests.jiki.conftest import RIGHT, WRONG

pytestmark = pytest.mark.django_db


@pytest.fixture
def batch(exercise, submit):
    submissions = [submit(WRONG if n % 3 else RIGHT) for n in range(SUBMISSIONS)]
    return Batch.objects.create(exercise=exercise, total=SUBMISSIONS, last=submissions[-1].pk)


def test_a_deployment_and_a_killed_worker_store_each_result_once(batch, jobs):
    job = RecheckBatch.defer(batch.pk)
    jobs.interrupt(RecheckBatch, at="checked", after=2)
    jobs.perform_enqueued_jobs()
    batch.refresh_from_db()
    assert (job.state, batch.state, batch.done) == (JobState.QUEUED, "running", 2)

    jobs.kill(RecheckBatch, at="checked", after=5)  # what was not written is checked again, and not counted again
    jobs.perform_enqueued_jobs()
    jobs.perform_enqueued_jobs()
    assert_done_once(batch)


def test_rows_that_go_meanwhile_are_left_out(batch, jobs):
    RecheckBatch.defer(batch.pk)
    jobs.interrupt(RecheckBatch, at="checked", after=3)
    jobs.perform_enqueued_jobs()
    Submission.objects.order_by("pk")[4].delete()
    jobs.perform_enqueued_jobs()
    batch.refresh_from_db()
    assert (batch.state, batch.done) == ("finished", SUBMISSIONS - 1)


def test_broken_checks_stop_it_and_it_goes_on_from_there(batch, exercise, jobs, monkeypatch):
    job = RecheckBatch.defer(batch.pk)
    jobs.interrupt(RecheckBatch, at="checked", after=3)
    jobs.perform_enqueued_jobs()
    with monkeypatch.context() as patch:
        patch.setattr(sandbox, "check", broken)
        jobs.perform_enqueued_jobs()
    batch.refresh_from_db()
    assert (job.state, batch.state, batch.done) == (JobState.DEAD, "stopped", 3)

    job.requeue()
    jobs.perform_enqueued_jobs()
    assert_done_once(batch)


def broken(sources, checks):
    raise sandbox.BrokenChecksError("as planned")
