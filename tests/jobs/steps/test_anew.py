"""A person has a job do its steps anew, all of them or from one on; and the job of the docs runs."""

import pytest

from jobs import control
from jobs.errors import ChangeRefusedError, StepError
from jobs.models import Cursor
from tests.jobs.steps.test_steps import Planned, names, state_of
from tests.sample.commands.courses import CloseCourse
from tests.sample.commands.steps import Plan
from tests.sample.models import Batch, Submission

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def dead(worker, plan, did, monkeypatch):
    monkeypatch.setattr(Plan, "retries", 0)

    @plan
    def die_once(command):
        command.step(command.one)
        command.step(command.two)
        command.each(range(3), did.append)
        if did.count(2) == 1:
            raise Planned

    job = Plan.defer("die_once")
    worker.run()
    assert (job.state, did) == ("dead", ["one", "two", 0, 1, 2])
    did.clear()
    return job


@pytest.mark.parametrize(
    ("step", "done"), [("", ["one", "two", 0, 1, 2]), ("two", ["two", 0, 1, 2]), ("each", [0, 1, 2])]
)
def test_a_dead_job_begins_anew_or_goes_on_from_a_step(worker, dead, did, plan, step, done):
    control.begin_anew(dead, step)
    assert "rewound" in names(dead)
    plan(lambda command: None)
    did.append("anew")
    Plan.plans["die_once"] = _without_an_error(did)
    worker.run()
    assert (dead.state, did[1:]) == ("finished", done)
    assert Cursor.objects.count() == 2  # each life has its own


def _without_an_error(did):
    def call(command):
        command.step(command.one)
        command.step(command.two)
        command.each(range(3), did.append)

    return call


def test_a_step_that_it_has_not_begun_is_refused(dead):
    with pytest.raises(StepError, match="The job has no step 'three'. Its steps so far: one, two, each."):
        control.begin_anew(dead, "three")


def test_a_running_job_and_a_finished_one_are_refused(worker, plan, did):
    @plan
    def try_it(command):
        command.step(command.one)
        try:
            control.begin_anew(command.job)
        except ChangeRefusedError as error:
            did.append(str(error))

    job = Plan.defer("try_it")
    worker.run()
    assert did[1].endswith("cannot be begun anew: it is started.")
    with pytest.raises(ChangeRefusedError, match="it is finished"):
        control.begin_anew(job)


def test_the_job_of_the_docs(worker):
    batch = Batch.objects.create()
    Submission.objects.bulk_create(Submission(batch=batch) for _ in range(250))
    CloseCourse.told.clear()
    job = CloseCourse.defer(batch)
    worker.run()
    batch.refresh_from_db()
    assert (job.state, batch.done, len(CloseCourse.told)) == ("finished", 250, 250)
    assert [(step.name, step.done) for step in state_of(job).ended] == [
        ("freeze", 0),
        ("each", 250),
        ("mail", 250),
        ("publish", 0),
    ]
