"""Outcomes of plain RQ jobs that the server refuses: one that is too large fails its job, and an outage fails none."""

from types import SimpleNamespace

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError

from jobs.errors import JobsError
from jobs.job import MandateJob
from jobs.queues import get_queue
from jobs.worker import rq_jobs
from jobs.worker.parcels import LARGE
from jobs.worker.rq_jobs import TRIES, PlainRunner
from tests.jobs.worker import eventually
from tests.jobs.worker.servers import Server
from tests.sample import functions


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_a_result_that_the_server_refuses_fails_the_job_and_frees_its_thread(
    tmp_path, settings, monkeypatch, worker_process
):
    with Server(tmp_path / "strict", "proto-max-bulk-len 1048576") as server:
        server.use(settings, monkeypatch)
        queue = get_queue("default")
        large = queue.enqueue(functions.record, number=1, seconds=0, fails=False, size=900_000)
        small = queue.enqueue(functions.record, number=2, seconds=0, fails=False)
        worker = worker_process("default", concurrency=1)

        eventually(lambda: small.get_status(refresh=True) == "finished")
        assert large.get_status(refresh=True) == "failed"
        reason = MandateJob.fetch(large.id, connection=queue.connection).reason
        assert reason.startswith("JobsError: The server does not take the outcome, 9")
        worker.stop()  # once its server has gone it waits half a minute for it


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_a_lone_surrogate_in_an_error_stays_readable(worker_process):
    job = get_queue("default").enqueue(functions.fail_with, "odd \ud800 text")
    worker_process("default", burst=True).wait()

    assert job.get_status(refresh=True) == "failed"
    assert "RuntimeError: odd ? text" in job.latest_result().exc_string
    assert MandateJob.fetch(job.id, connection=job.connection).reason == "RuntimeError: odd ? text"


@pytest.fixture
def runner(monkeypatch):
    """A runner whose claim is held until `written`. Its server refuses other writes while `refuses` has errors."""
    monkeypatch.setattr(rq_jobs.time, "sleep", lambda seconds: None)
    runner = PlainRunner.__new__(PlainRunner)
    runner.written, runner.refuses, runner.writes = False, [], 0
    runner._claim, runner._allow = None, lambda claim, limit: None

    def set_probe(*args, **options):
        if runner.refuses:
            raise runner.refuses.pop()
        return True

    runner.connection = SimpleNamespace(set=set_probe)
    monkeypatch.setattr(runner, "_holds_claim", lambda: not runner.written)
    return runner


def write(runner, errors, size=LARGE + 1):
    """Write an outcome; each error refuses one write."""

    def write_once():
        runner.writes += 1
        if errors:
            raise errors.pop()
        runner.written = True

    runner._write(SimpleNamespace(), write_once, lambda: size)


@pytest.mark.parametrize("error", [RedisConnectionError, OutOfMemoryError, ReadOnlyError])
def test_an_outage_or_a_full_server_is_waited_for(runner, error):
    runner.refuses = [error("no")] * 50
    write(runner, [error("no")] * 50)
    assert runner.writes == 51


def test_an_outcome_that_alone_is_refused_is_given_up(runner):
    with pytest.raises(JobsError, match="does not take the outcome, 65,537 bytes: too large"):
        write(runner, [OutOfMemoryError("too large")] * 50)
    assert runner.writes == TRIES


def test_a_small_outcome_is_never_too_large(runner):
    write(runner, [RedisConnectionError("lost")] * 50, size=LARGE)
    assert runner.writes == 51


def test_tries_count_only_one_after_the_other(runner):
    runner.refuses = [RedisConnectionError("no")]
    write(runner, [RedisConnectionError("no")] * TRIES)
    assert runner.writes == TRIES + 1


def test_an_error_that_rq_swallows_counts_only_while_other_writes_are_taken(runner):
    def swallowed():
        runner.writes += 1
        runner.written = runner.writes == 51

    runner.refuses = [OutOfMemoryError("no")] * 50
    runner._write(SimpleNamespace(), swallowed)
    assert runner.writes == 51
