"""All submissions of an exercise anew, by a worker that is stopped at each step."""

from collections import Counter

import pytest

from jiki import sandbox
from jiki.commands.process_batch import ProcessBatch
from jiki.commands.recheck_batch import RecheckBatch
from jiki.commands.start_batch import StartBatch
from jiki.models import Batch, Submission
from jobs import inspection, queues
from jobs.errors import RedisUnavailableError
from jobs.job import JobState
from tests.jiki.conftest import RIGHT, WRONG
from tests.jobs.conftest import InlineWorker

pytestmark = pytest.mark.django_db(transaction=True)

SUBMISSIONS, LIMIT = 7, 3


@pytest.fixture
def worker(valkey):
    return InlineWorker()


@pytest.fixture
def submissions(submit):
    return [submit(WRONG if n % 3 else RIGHT) for n in range(SUBMISSIONS)]


@pytest.fixture
def batch(exercise, submissions):
    return Batch.objects.create(exercise=exercise, total=SUBMISSIONS, last=submissions[-1].pk)


@pytest.fixture
def checked(monkeypatch):
    """How often each file was checked, in this process."""
    counts, check = Counter(), sandbox.check

    def count(files, checks):
        counts[files["solution.py"]] += 1
        return check(files, checks)

    monkeypatch.setattr(sandbox, "check", count)
    return counts


def assert_done_once(batch):
    batch.refresh_from_db()
    assert (batch.state, batch.done, batch.passed, batch.total) == ("finished", SUBMISSIONS, 3, SUBMISSIONS)
    assert batch.ended_at
    states = list(Submission.objects.order_by("pk").values_list("state", flat=True))
    assert states == ["failed" if n % 3 else "passed" for n in range(SUBMISSIONS)]


def test_starting_one_notes_what_there_is_and_what_comes_later_is_not_in_it(exercise, submissions, submit, jobs):
    batch = StartBatch.run(exercise, submissions[0].user)
    submit()
    jobs.assert_enqueued_with(RecheckBatch, args=[batch.pk], queue="background")
    jobs.perform_enqueued_jobs()

    batch.refresh_from_db()
    assert (batch.total, batch.last, batch.started_by) == (SUBMISSIONS, submissions[-1].pk, submissions[0].user)
    assert batch.state == "finished"
    assert Submission.objects.last() != submissions[-1]
    assert Submission.objects.filter(state="queued").count() == 1


def test_one_without_submissions_is_finished_at_once(exercise, learner, jobs):
    batch = StartBatch.run(exercise, learner)
    jobs.perform_enqueued_jobs()

    batch.refresh_from_db()
    assert (batch.state, batch.total, batch.done) == ("finished", 0, 0)


def test_each_slice_defers_the_next(batch, worker, checked):
    ProcessBatch.defer(batch.pk, limit=LIMIT)
    assert worker.run() == 3
    assert_done_once(batch)
    assert checked.total() == SUBMISSIONS


def test_progress_shows_slice_by_slice(batch, worker, submissions):
    ProcessBatch.defer(batch.pk, limit=LIMIT)
    worker.step()

    batch.refresh_from_db()
    assert (batch.state, batch.done, batch.passed, batch.reached) == ("running", 3, 1, submissions[2].pk)


def test_a_last_slice_that_is_full_ends_too(batch, worker, submissions):
    submissions[-1].delete()
    ProcessBatch.defer(batch.pk, limit=LIMIT)
    assert worker.run() == 3

    batch.refresh_from_db()
    assert (batch.state, batch.done) == ("finished", 6)


def test_rows_that_go_meanwhile_shift_nothing(batch, worker, submissions, checked):
    ProcessBatch.defer(batch.pk, limit=LIMIT)
    worker.step()
    submissions[0].delete()
    submissions[4].delete()
    worker.run()

    batch.refresh_from_db()
    assert (batch.state, batch.done) == ("finished", SUBMISSIONS - 1)
    assert checked.total() == SUBMISSIONS - 1
    assert not Submission.objects.filter(state="queued").exists()


@pytest.mark.parametrize("queue", ["critical", "background"])
def test_a_slice_that_is_run_again_checks_nothing_twice_and_goes_on(queue, batch, worker, checked):
    ProcessBatch.defer(batch.pk, limit=LIMIT)
    worker.step()
    again = ProcessBatch.defer(batch.pk, limit=LIMIT, queue=queue)  # before the next one runs, or after
    assert not again.duplicate
    worker.run()
    assert_done_once(batch)
    assert checked.total() == SUBMISSIONS


def test_one_that_is_deferred_too_early_ends_nothing(batch, worker, submissions):
    ProcessBatch.defer(batch.pk, after=submissions[4].pk, limit=LIMIT)
    worker.run()
    assert_done_once(batch)


def test_two_at_the_same_slice_store_it_once(batch, worker, submissions, monkeypatch):
    check = sandbox.check

    def overtaken(files, checks):
        monkeypatch.setattr(sandbox, "check", check)
        ProcessBatch.run(batch.pk, 0, LIMIT)
        return check(files, checks)

    monkeypatch.setattr(sandbox, "check", overtaken)
    ProcessBatch.run(batch.pk, 0, LIMIT)

    batch.refresh_from_db()
    assert batch.done == LIMIT
    worker.run()
    assert_done_once(batch)


def test_a_slice_that_breaks_off_leaves_nothing_and_is_done_again(batch, worker, monkeypatch):
    settle, left = Submission.settle, [2]

    def stumble(submission, report):
        left[0] -= 1
        if left[0] == 0:
            raise RuntimeError("half-way")
        settle(submission, report)

    monkeypatch.setattr(Submission, "settle", stumble)
    job = ProcessBatch.defer(batch.pk, limit=LIMIT)
    worker.run()
    assert job.state is JobState.RETRYING
    batch.refresh_from_db()
    assert (batch.done, batch.reached, Submission.objects.exclude(state="queued").count()) == (0, 0, 0)

    worker.hurry().run()
    assert_done_once(batch)


def test_redis_that_is_away_at_the_commit_skips_no_slice(batch, worker, monkeypatch, checked):
    write = queues.write

    def away(*args):
        monkeypatch.setattr(queues, "write", write)
        raise RedisUnavailableError("No answer from Redis.")

    job = ProcessBatch.defer(batch.pk, limit=LIMIT)
    monkeypatch.setattr(queues, "write", away)
    worker.run()
    assert job.state is JobState.RETRYING
    worker.hurry().run()
    assert_done_once(batch)
    assert checked.total() == SUBMISSIONS


def test_broken_checks_stop_it_and_a_retry_goes_on_from_there(batch, worker, exercise, monkeypatch):
    job = ProcessBatch.defer(batch.pk, limit=LIMIT)
    worker.step()
    checks, exercise.checks = exercise.checks, "import no_such"
    exercise.save()
    worker.run()
    batch.refresh_from_db()
    assert (batch.state, batch.done, job.state) == ("stopped", LIMIT, JobState.FINISHED)

    exercise.checks = checks
    exercise.save()
    ProcessBatch.defer(batch.pk, batch.reached, LIMIT)
    worker.run()
    assert_done_once(batch)


def test_it_knows_the_job_that_goes_on_with_it_whatever_was_run_again(batch, worker):
    ProcessBatch.defer(batch.pk, limit=LIMIT)
    worker.step()
    batch.refresh_from_db()
    following = inspection.find(batch.job_id)
    assert following.state is JobState.QUEUED

    ProcessBatch.run(batch.pk, 0, LIMIT)  # once more: what it defers is that job's duplicate
    batch.refresh_from_db()
    assert batch.job_id == following.id

    worker.step()
    worker.step()
    batch.refresh_from_db()
    assert (batch.job_id != following.id, batch.state) == (True, "finished")
    batch.reached = 0
    batch.goes_on(following.id)  # late
    batch.refresh_from_db()
    assert (batch.job_id != following.id, batch.state) == (True, "finished")


@pytest.mark.processes
@pytest.mark.parametrize("kills", ["child", "all"])
@pytest.mark.parametrize(
    "step",
    ["on the board", "before a push", "after a push", "after the attempt", "after the step is sent"],
)
def test_a_worker_that_is_killed_between_slices_skips_and_repeats_none(
    step, kills, batch, worker_process, tmp_path, valkey
):
    marker = tmp_path / "struck"
    ProcessBatch.defer(batch.pk, limit=LIMIT)
    faulty = {
        "DJANGO_SETTINGS_MODULE": "tests.faulty",
        "FAULT": f"{step}:2",
        "FAULT_MARKER": str(marker),
        "FAULT_KILLS": kills,
    }
    worker = worker_process("background", burst=True, concurrency=1, env=faulty)
    code = worker.wait()
    assert marker.exists(), "the fault never struck"
    if kills == "all":
        with valkey.client() as client:  # the thirty seconds pass
            for name in client.zrange("jobs:workers", 0, -1):
                client.zadd("jobs:workers", {name: 1})
        worker = worker_process("background", burst=True, concurrency=1)
        code = worker.wait()
    assert code == 0, worker.output

    assert_done_once(batch)
