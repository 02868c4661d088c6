"""Long jobs in real workers: a stop, a pause, a time-out inside the functions that steps and loops call."""

import time

import pytest

from jobs import queues
from jobs.attempts.interrupt import Interruptible, TimedOut
from jobs.attempts.outcomes import Retried
from jobs.broker.connections import get_connection
from tests.jobs.steps.test_rows import InThread
from tests.jobs.steps.test_steps import state_of
from tests.processes import wait_until
from tests.sample.commands.steps import Grade, Plan, Stroll, Walk
from tests.sample.models import Batch, Run, Submission

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def batch():
    batch = Batch.objects.create()
    Submission.objects.bulk_create(Submission(batch=batch) for _ in range(500))
    return batch


def visited():
    return Submission.objects.filter(processed__gt=0).count()


@pytest.mark.processes
def test_a_stopped_worker_leaves_its_jobs_off_at_once_and_the_next_goes_on(worker_process, batch):
    walk, grade = Walk.defer(batch.pk, pause=0.02), Grade.defer(Batch.objects.create().pk)
    worker = worker_process("default", concurrency=2)
    wait_until(lambda: visited() > 5)
    assert worker.stop() == 0
    fields = get_connection("default").hgetall(walk.key)
    assert (walk.state, walk.progress.attempts, fields.get(b"interruptions")) == ("queued", 0, None)
    assert state_of(walk).current.done == visited()

    worker = worker_process("default", concurrency=1)
    wait_until(lambda: (now := state_of(walk).current) and visited() > now.done + 5)
    queues.pause("default")
    wait_until(lambda: walk.state == "queued")
    assert walk.history[-1].reason == "the queue default is paused, at the step 'each'"
    queues.resume("default")
    wait_until(lambda: walk.state == "finished", 60)
    assert set(Submission.objects.values_list("processed", flat=True)) == {1}
    assert Run.objects.filter(ended=False).count() == 1
    assert grade.state == "finished"


@pytest.mark.processes
def test_a_job_on_an_event_loop_leaves_off_and_goes_on(worker_process):
    job = Stroll.defer(400)
    worker = worker_process("default", concurrency=1)
    wait_until(lambda: state_of(job).current and state_of(job).current.done > 5)
    assert worker.stop() == 0
    assert (job.state, job.progress.attempts, job.history[-1].name) == ("queued", 0, "resumed")
    done = state_of(job).current.done

    worker_process("default", burst=True, concurrency=1).wait(60)
    assert (job.state, job.return_value()) == ("finished", 400)
    assert [(step.name, step.done) for step in state_of(job).ended] == [("begin", 0), ("each", 400)]
    assert 5 < done < 400


class TestTimeouts:
    """The interrupt is raised inside the project's function, below the engine's."""

    def interrupted(self, worker, is_inside):
        claim = worker.claim()
        thread = Interruptible()
        attempt = InThread(claim, thread)
        wait_until(is_inside)
        while attempt.is_alive():
            thread.interrupt(claim, TimedOut)
            time.sleep(0.005)
        return attempt.ended.outcome

    def test_in_the_function_of_a_step(self, worker, plan, did):
        def spin():
            did.append("inside")
            while True:
                time.sleep(0.001)

        @plan
        def spinning(command):
            command.step(command.one)
            command.step(spin)

        job = Plan.defer("spinning")
        outcome = self.interrupted(worker, lambda: "inside" in did)
        assert type(outcome) is Retried and outcome.reason.startswith("TimedOut")
        assert [step.name for step in state_of(job).ended] == ["one"]

    def test_in_the_body_of_a_loop(self, worker, batch, monkeypatch):
        inside = []

        def spin(submission):
            inside.append(submission.pk)
            while len(inside) == 15:
                time.sleep(0.001)

        monkeypatch.setattr(Grade, "at", spin)
        Grade.defer(batch.pk, 10)
        outcome = self.interrupted(worker, lambda: len(inside) == 15)
        assert type(outcome) is Retried and outcome.reason.startswith("TimedOut")
        assert visited() == 10  # the chunk that it was in is rolled back
