"""Cancel, delete, retry and run now: in every state, and while the job runs."""

import threading

import pytest

from jobs import control
from jobs.broker.connections import get_connection
from jobs.errors import ChangeRefusedError, PrerequisiteError
from jobs.job import JobState
from tests.jobs.worker import eventually
from tests.sample.commands.limits import Fresh
from tests.sample.commands.long import Patient, SpinLong
from tests.sample.commands.notes import WriteNote
from tests.sample.commands.trouble import TroubleTwice
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("ahead", ["queued", "scheduled", "waiting", "retrying"])
def test_a_job_that_is_still_to_run_is_cancelled_and_kept_for_a_day(ahead, worker, places):
    if ahead == "retrying":
        job = TroubleTwice.defer()
        worker.run()
    elif ahead == "waiting":
        job = WriteNote.defer("x", prereq_jobs=[WriteNote.defer("1", wait=60)])
    else:
        job = WriteNote.defer("x", wait=60 if ahead == "scheduled" else None)
    assert job.state == ahead
    job.cancel()

    assert (job.state, job.reason) == ("cancelled", "cancelled")
    assert places()[job.id] == ["canceled:default"]
    assert get_connection("default").ttl(job.key) == pytest.approx(86_400, abs=5)
    assert job.history[-1].name == "cancelled"
    worker.hurry().run()
    assert job.state == "cancelled"


def test_an_ended_job_is_not_cancelled(worker):
    job = WriteNote.defer("x")
    worker.run()
    with pytest.raises(ChangeRefusedError, match=f"Job {job.id} cannot be cancelled: it is finished"):
        job.cancel()


def test_a_cancelled_job_can_be_retried(worker):
    job = WriteNote.defer("x")
    control.cancel(job, "not needed")
    assert job.reason == "not needed"
    control.retry(job)
    worker.run()
    assert job.state == "finished"
    assert [event.name for event in job.history] == ["queued", "cancelled", "revived", "started", "finished"]


@pytest.mark.parametrize("at_front", [False, True])
def test_a_retried_job_goes_to_the_head_or_the_tail(at_front):
    job, other = WriteNote.defer("x"), WriteNote.defer("y")
    control.cancel(job)
    control.retry(job, at_front=at_front)
    ids = [i.decode() for i in get_connection("default").lrange("rq:queue:default", 0, -1)]
    assert ids == ([job.id, other.id] if at_front else [other.id, job.id])


def test_run_now_does_not_wait_for_the_time_and_not_for_prerequisites(worker):
    later = WriteNote.defer("later", wait=3_600)
    waiting = WriteNote.defer("waiting", prereq_jobs=[later])
    control.run_now(waiting)
    worker.run()
    assert (later.state, waiting.state) == ("scheduled", "finished")
    control.run_now(later)
    worker.run()
    assert later.state == "finished"


@pytest.mark.parametrize("state", ["queued", "scheduled", "retrying", "finished", "dead", "cancelled"])
def test_a_job_is_deleted_in_whatever_state_and_leaves_nothing_but_a_trace(state, worker, places):
    job = TroubleTwice.defer(times=0 if state == "finished" else 99, wait=60 if state == "scheduled" else None)
    if state == "cancelled":
        job.cancel()
    for _ in range({"retrying": 1, "dead": 3, "finished": 1}.get(state, 0)):
        worker.hurry().run()
    assert job.state == state
    job.delete()

    client = get_connection("default")
    assert places() == {}
    assert [key for key in client.scan_iter() if job.id.encode() in key] == [f"jobs:gone:{job.id}".encode()]
    assert client.ttl(f"jobs:gone:{job.id}") == pytest.approx(86_400, abs=5)
    job.delete()  # gone already: as RQ's own, silently


def test_a_moved_job_keeps_its_budget_and_its_deadline():
    job, client = Fresh.defer(), get_connection("default")
    client.hset(job.key, mapping={"progress": b'{"attempts": 3}', "interruptions": b"1"})
    before = client.hgetall(job.key)
    control.move(job, "low")
    assert client.hgetall(job.key) == {**before, b"origin": b"low", b"enqueued_at": client.hget(job.key, "enqueued_at")}
    assert client.lrange("rq:queue:low", 0, -1) == [job.id.encode()]
    assert client.llen("rq:queue:default") == 0


def test_a_job_without_a_record_or_in_another_state_is_refused(worker):
    job = WriteNote.defer("x")
    with pytest.raises(ChangeRefusedError, match="cannot be retried: it is queued"):
        control.retry(job)
    with pytest.raises(ChangeRefusedError, match="cannot be run now: it is queued"):
        control.run_now(job)
    control.delete(job)
    for change in (control.retry, control.cancel, control.delete):
        with pytest.raises(ChangeRefusedError, match=f"Job {job.id} cannot be .*no record"):
            change(job)


# --- while it runs ---------------------------------------------------------------------------


@pytest.mark.processes
def test_a_running_job_is_interrupted_and_not_run_again(worker_process, tmp_path, places):
    started = tmp_path / "started"
    job, after = SpinLong.defer(str(started)), WriteNote.defer("after")
    worker = worker_process("default", concurrency=1, env={"LOG_LEVEL": "INFO"})
    eventually(started.exists)
    job.cancel()

    eventually(lambda: after.state is JobState.FINISHED)
    assert job.state == "cancelled"
    assert places()[job.id] == ["canceled:default"]
    assert f"refused late result of job {job.id}: it was cancelled" in worker.output


@pytest.mark.processes
def test_the_late_result_of_a_cancelled_job_is_refused(worker_process, tmp_path, valkey):
    started, release = tmp_path / "started", tmp_path / "release"
    job = Patient.defer(str(started), str(release))
    worker = worker_process("default", concurrency=1)
    eventually(started.exists)
    with valkey.client() as client:  # the message to the worker is lost
        client.hset(job.key, "worker_name", "nobody")
    job.cancel()
    release.touch()
    eventually(lambda: Note.objects.exists())
    after = WriteNote.defer("after")
    eventually(lambda: after.state is JobState.FINISHED)

    assert job.state == "cancelled"
    assert worker.stop() == 0


def test_a_claim_that_has_not_begun_is_dropped(worker):
    jobs = WriteNote.defer_many([("1",), ("2",)])
    worker.fetch.pace.batch = 16
    assert worker.step()
    assert [claim.job_id for claim in worker.fetch._ready] == [jobs[1].id]
    jobs[1].cancel()
    worker.fetch.forget(jobs[1].id)

    assert worker.run() == 0
    assert worker.fetch.held == {}
    assert jobs[1].state == "cancelled"


def test_many_cancel_and_one_succeeds():
    job = WriteNote.defer("x")
    start, results = threading.Barrier(6), []

    def cancel():
        start.wait()
        try:
            control.cancel(job)
            results.append("done")
        except ChangeRefusedError:
            results.append("refused")

    threads = [threading.Thread(target=cancel) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["done"] + ["refused"] * 5


def test_a_queue_of_another_server_is_refused(settings):
    queued, cancelled = WriteNote.defer("x"), WriteNote.defer("y")
    control.cancel(cancelled)
    elsewhere = {**settings.RQ_QUEUES["low"], "URL": f"{settings.RQ_QUEUES['low']['URL']}?db=1"}
    settings.RQ_QUEUES = {**settings.RQ_QUEUES, "low": elsewhere}
    with pytest.raises(ChangeRefusedError, match="cannot be moved to low: that queue is on another Redis"):
        control.move(queued, "low")
    with pytest.raises(ChangeRefusedError, match="cannot be retried to low: that queue is on another Redis"):
        control.retry(cancelled, queue="low")
    with pytest.raises(PrerequisiteError, match="it is on another Redis"):
        WriteNote.defer("z", queue="low", prereq_jobs=[queued])
    assert (queued.state, cancelled.state) == ("queued", "cancelled")
