"""The kit stops attempts at their checkpoints, and kills their workers."""

import pytest

from jobs.steps import checkpoints
from jobs.testing import Kit
from tests.sample.commands.courses import CloseCourse
from tests.sample.commands.notes import WriteNote
from tests.sample.commands.steps import Plan
from tests.sample.models import Batch, Submission

pytestmark = pytest.mark.django_db


@pytest.fixture
def batch():
    batch = Batch.objects.create()
    Submission.objects.bulk_create(Submission(batch=batch) for _ in range(250))
    CloseCourse.told.clear()
    return batch


def test_a_deployment_in_the_middle_grades_each_once(jobs, batch):
    job = CloseCourse.defer(batch)
    jobs.interrupt(CloseCourse, at="each", after=100)
    jobs.perform_enqueued_jobs()
    assert job.state == "queued"

    jobs.kill(CloseCourse, at="each", after=220)  # in the middle of a chunk
    jobs.perform_enqueued_jobs()
    jobs.perform_enqueued_jobs()
    assert job.state == "finished"
    assert set(batch.submission_set.values_list("processed", flat=True)) == {1}


def test_an_interrupt_uses_no_retry_and_loses_nothing(jobs, plan, did):
    @plan
    def visit(command):
        for number in command.each(range(5)):
            did.append(number)

    job = Plan.defer("visit")
    jobs.interrupt(Plan, at="each", after=3)
    assert jobs.perform_enqueued_jobs() == 1
    assert (did, job.state, job.progress.attempts) == ([0, 1, 2], "queued", 0)
    jobs.perform_enqueued_jobs()
    assert (did, job.state) == ([0, 1, 2, 3, 4], "finished")


def test_a_kill_loses_what_was_not_written_and_counts_as_an_interruption(jobs, plan, did, monkeypatch):
    monkeypatch.setattr(checkpoints, "EVERY", 60.0)

    @plan
    def visit(command):
        command.step(command.one)
        for number in command.each(range(5)):
            did.append(number)

    job = Plan.defer("visit")
    jobs.kill(Plan, at="each", after=3)
    jobs.perform_enqueued_jobs()
    assert (job.state, jobs.memory.hget(job.key, "interruptions")) == ("queued", b"1")
    jobs.perform_enqueued_jobs()
    assert did == ["one", 0, 1, 2, 0, 1, 2, 3, 4]


def test_in_a_block_the_job_goes_on_at_once(jobs, plan, did):
    @plan
    def both(command):
        command.step(command.one)
        command.step(command.two)

    jobs.interrupt(Plan)
    jobs.kill(Plan, at="two")
    with jobs.perform_enqueued_jobs():
        job = Plan.defer("both")
    assert (job.state, did, len(jobs.performed_jobs)) == ("finished", ["one", "two"], 3)


def test_what_no_attempt_comes_to_fails_the_test(plan):
    text = "interrupt.sample.Plan, at='nowhere', after=0. did not come to pass"
    with pytest.raises(AssertionError, match=text), Kit() as jobs:
        jobs.interrupt(Plan, at="nowhere")


def test_what_is_no_command_and_no_number_is_refused(jobs):
    with pytest.raises(TypeError, match="is no command"):
        jobs.interrupt(Batch)
    with pytest.raises(ValueError, match="after=-1 is impossible"):
        jobs.kill(WriteNote, after=-1)
