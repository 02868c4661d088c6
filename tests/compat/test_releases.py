"""What earlier releases left in the server runs on this one: `payloads/<version>/` holds it, as they wrote it."""

import os
import time
from decimal import Decimal

import pytest

from jobs import MandateJob, control, runtime, scheduler
from jobs.broker.connections import get_connection
from jobs.scheduler import Scheduler
from jobs.worker.connection import Wire
from jobs.worker.recovery import recover
from tests.compat import samples
from tests.jobs.conftest import InlineWorker
from tests.jobs.record.test_arguments import same
from tests.sample.commands.kept import KEPT, Keep
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def kept():
    samples.records()
    KEPT.clear()
    yield
    KEPT.clear()


@pytest.fixture
def worker(valkey):
    return InlineWorker()


@pytest.fixture(params=samples.versions())
def stored(request):
    """`stored("waiting")`: what that release left is in the server now; returns its jobs, the oldest first."""

    def load(name):
        sample = samples.read(request.param, name)
        samples.load(sample)
        ids = [key.removeprefix("rq:job:") for key in sample if key.startswith("rq:job:") and ":entry-" not in key]
        jobs = [MandateJob.fetch(job_id, connection=get_connection("default")) for job_id in ids]
        return sorted(jobs, key=lambda job: job.created_at)

    return load


def states(jobs):
    return [job.state for job in jobs]


# --- they are there, and they are what this code writes ----------------------------------------


@pytest.mark.parametrize("scene", samples.SCENES, ids=lambda scene: scene.__name__)
def test_this_version_has_samples_in_the_form_that_it_writes(scene, worker, monkeypatch):
    monkeypatch.setattr(runtime, "now", lambda: time.time() - samples.A_MONTH)
    scene(worker)
    now = samples.dump()
    if os.environ.get("SAMPLES"):
        samples.write(scene.__name__, now)

    assert samples.VERSION in samples.versions(), "SAMPLES=1 make test ARGS=tests/compat/test_releases.py writes them"
    # If the form has changed: see docs/upgrading.md. Only what is not released yet may be written again.
    assert samples.form(now) == samples.form(samples.read(samples.VERSION, scene.__name__))


# --- they run ----------------------------------------------------------------------------------


def test_arguments_come_back_as_they_were(stored, worker):
    jobs = stored("arguments")
    expected = [*samples.values().values(), "named"]

    assert worker.run() == len(expected)
    assert set(states(jobs)) == {"finished"}
    assert [same(got, wanted) for got, wanted in zip(KEPT, expected, strict=True)] == [True] * len(expected)


def test_options_count(stored, worker):
    plain, job = sorted(stored("options"), key=lambda job: job.origin)
    assert (job.origin, job.timeout, plain.origin) == ("low", 7.5, "critical")

    worker.run()

    assert KEPT == ["elsewhere", "with options"]
    assert job.return_value() == ["7f3a", job.id]
    assert 0 < job.connection.ttl(job.key) <= 60


def test_scheduled_jobs_are_due_at_their_time(stored, worker):
    jobs = stored("scheduled")
    assert set(states(jobs)) == {"scheduled"}

    worker.run()

    assert KEPT == ["later", "first", "second"]


def test_waiting_jobs_go_on_when_what_they_wait_for_is_done(stored, worker):
    jobs = stored("waiting")
    assert sorted(states(jobs)) == ["queued", "queued", "waiting", "waiting", "waiting"]

    worker.run()

    assert sorted(KEPT) == ["first", "second", "third", "whatever"]
    assert KEPT.index("first") < KEPT.index("second") < KEPT.index("third")


@pytest.mark.parametrize(("scene", "how"), [("retried", "retry"), ("requeued", "requeue")])
def test_jobs_between_two_attempts_go_on_with_the_budget_they_have(stored, worker, scene, how):
    (job,) = stored(scene)
    assert job.state == ("retrying" if how == "retry" else "scheduled")
    assert (job.progress.attempts, job.progress.requeues) == (1, how == "requeue")
    if how == "retry":
        assert job.reason == "RuntimeError: not yet"
        assert "RuntimeError: not yet" in job.results()[0].exc_string
    assert [event.name for event in job.history][:1] == ["queued"]

    worker.run()

    assert (KEPT, job.state) == ([how], "finished")


def test_what_a_dead_worker_of_it_held_is_run_again(stored, worker):
    (job,) = stored("claimed")
    assert job.state == "running"

    back, dead = recover(Wire("default"), "default")
    worker.run()

    assert ([job_id for job_id, _ in back], dead) == ([job.id], [])
    assert (KEPT, job.state) == (["claimed"], "finished")


def test_dead_jobs_can_be_looked_at_and_retried(stored, worker):
    (job,) = stored("dead")
    assert (job.state, job.reason) == ("dead", "RuntimeError: as planned")
    assert job.description == "sample.Fail('as planned')"

    control.retry(job)

    assert job.state == "queued"
    worker.run()
    assert job.state == "dead"


def test_results_can_be_read(stored):
    (job,) = stored("finished")

    assert job.return_value() == (Note.objects.get(pk=1), Decimal("0.10"))


def test_a_cancelled_job_that_waited_waits_again_when_it_is_retried(stored, worker):
    first, second = stored("cancelled")
    assert (second.state, second.reason) == ("cancelled", "changed my mind")

    control.retry(second)

    assert second.state == "waiting"
    worker.run()
    assert KEPT == ["first", "second"]
    assert first.state == "finished"


def test_recurring_entries_go_on_and_paused_ones_stay_so(stored, worker):
    stored("recurring")
    found = {entry.name: entry for entry in scheduler.entries()}
    assert {name: entry.paused for name, entry in found.items()} == {"every minute": False, "at night": True}
    assert found["at night"].entry.timezone == "Europe/Berlin"

    assert Scheduler(connection=get_connection("default")).tick() == 1  # the latest of those that were missed
    worker.run()

    assert KEPT == ["recurring"]
    assert scheduler.get("every minute").next_at.timestamp() > time.time()
    scheduler.resume("at night")
    assert scheduler.get("at night").next_at.timestamp() > time.time()


def test_direct_jobs_run(stored, worker):
    (job,) = stored("direct")

    worker.run()

    assert job.return_value() == 7


# --- what else a release may change ------------------------------------------------------------


def test_jobs_of_a_queue_that_was_removed_can_be_moved(worker, settings):
    job = Keep.using(queue="low").defer("left behind")
    settings.RQ_QUEUES = {name: value for name, value in settings.RQ_QUEUES.items() if name != "low"}
    settings.JOBS = {**settings.JOBS, "QUEUES": dict.fromkeys(settings.RQ_QUEUES, "")}

    control.move(MandateJob.fetch(job.id, connection=get_connection("default")), "default")
    worker.run()

    assert KEPT == ["left behind"]
