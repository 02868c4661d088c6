"""Time-outs, and commands that resist being stopped. A worker goes on whatever a command does."""

import django_rq
import pytest
from rq import Callback

from jobs import control, runtime
from jobs.backends import RunTask
from jobs.broker.connections import get_connection
from jobs.inspection import find
from jobs.job import MandateJob
from jobs.waits import waiting
from jobs.worker import waits
from tests.jobs.worker import eventually
from tests.sample import functions, tasks
from tests.sample.commands.groups import CleanUpBadly
from tests.sample.commands.long import AwaitLong, Deaf, DeafForEver, Exit, Interrupted, SleepAsync, Spin
from tests.sample.commands.notes import WriteNote
from tests.sample.commands.waiting import WaitTooLong
from tests.sample.models import Note

processes = pytest.mark.processes
pytestmark = pytest.mark.django_db(transaction=True)


@processes
@pytest.mark.parametrize("command", [Spin, SleepAsync, CleanUpBadly])
def test_an_attempt_ends_at_its_timeout_and_the_next_job_runs(command, worker_process):
    job, after = command.defer(), WriteNote.defer("after")
    worker = worker_process("default", concurrency=1, burst=True)

    assert worker.wait() == 0, worker.output
    assert (job.state, job.reason) == ("dead", "TimedOut: The attempt took longer than its 1 seconds.")
    assert "longer than its 1 seconds" in job.latest_result().exc_string
    assert after.state == "finished"


@processes
@pytest.mark.parametrize("command", [Exit, Interrupted])
def test_a_command_cannot_end_the_worker(command, worker_process):
    job, after = command.defer(), WriteNote.defer("after")
    worker = worker_process("default", concurrency=1, burst=True)

    assert worker.wait() == 0, worker.output
    assert job.state == "dead"
    assert after.state == "finished"


@processes
def test_a_thread_that_does_not_return_costs_its_process_but_no_other_job(worker_process):
    job = Deaf.defer()
    worker = worker_process(
        "default", concurrency=2, env={"DJANGO_SETTINGS_MODULE": "tests.faulty", "INTERRUPT_GRACE": "1", "GRACE": "5"}
    )
    eventually(lambda: job.state == "dead")
    after = WriteNote.defer("after")
    eventually(lambda: after.state == "finished")

    assert "longer than its 1 seconds" in job.reason
    assert "this process takes no more jobs" in worker.output
    assert get_connection("default").zcard("rq:wip:default") == 0


def test_a_tampered_timeout_is_the_default(worker_process):
    job = WriteNote.defer("x")
    get_connection("default").hset(job.key, mapping={"timeout": "soon", "result_ttl": "long"})

    assert worker_process("default", burst=True).wait() == 0
    assert job.state == "finished"


@processes
def test_a_job_that_awaits_is_interrupted_at_once_and_costs_no_process(worker_process):
    plain = django_rq.get_queue("default").enqueue(functions.wait_async, 1_000, job_timeout=1)
    RunTask.timeout = 1
    try:
        task = find(tasks.wait_async.enqueue(1_000).id)
    finally:
        del RunTask.timeout
    after = WriteNote.defer("after")
    worker = worker_process("default", concurrency=1)

    eventually(lambda: after.state == "finished")
    assert "JobTimeoutException: Task exceeded maximum timeout value (1 seconds)" in plain.latest_result().exc_string
    assert (str(task.state), task.reason) == ("retrying", "TimedOut: The attempt took longer than its 1 seconds.")
    assert "did not come back" not in worker.output


@processes
@pytest.mark.parametrize("kind", ["command", "plain", "task"])
def test_a_cancelled_job_that_awaits_lets_its_thread_go(kind, worker_process):
    if kind == "command":
        job = AwaitLong.defer()
    elif kind == "plain":
        plain = django_rq.get_queue("default").enqueue(functions.wait_async, 1_000)
        job = MandateJob.fetch(plain.id, connection=plain.connection)
    else:
        job = find(tasks.wait_async.enqueue(1_000).id)
    worker_process("default", concurrency=1)
    eventually(lambda: job.state == "running")
    control.cancel(job)
    after = WriteNote.defer("after")

    eventually(lambda: after.state == "finished")
    assert job.state == "cancelled"


@processes
def test_a_cancelled_job_that_does_not_return_costs_its_process(worker_process):
    job = DeafForEver.defer()
    worker = worker_process(
        "default", concurrency=1, env={"DJANGO_SETTINGS_MODULE": "tests.faulty", "INTERRUPT_GRACE": "1", "GRACE": "5"}
    )
    eventually(lambda: job.state == "running")
    job.cancel()
    after = WriteNote.defer("after")

    eventually(lambda: after.state == "finished")
    assert job.state == "cancelled"
    assert "did not come back" in worker.output


@processes
def test_a_callback_of_a_plain_job_has_a_limit_of_its_own(worker_process):
    queue = django_rq.get_queue("default")
    late = queue.enqueue(functions.nap, 60, job_timeout=1, on_failure=Callback(functions.note_slowly, timeout=30))
    slow = queue.enqueue(functions.add, 1, 2, job_timeout=1, on_success=Callback(functions.note_slowly, timeout=30))
    endless = queue.enqueue(functions.add, 1, 2, on_success=Callback(functions.nap_on_success, timeout=1))

    assert worker_process("default", burst=True).wait() == 0
    assert late.is_failed
    assert slow.is_finished
    assert endless.is_failed
    assert Note.objects.filter(text="slowly").count() == 2


@processes
def test_a_wait_of_the_engine_ends_at_the_time_out(worker_process):
    """No interrupt reaches a thread inside a lock or a sleep: it would be given up, and its process replaced."""
    jobs = [WaitTooLong.defer(how) for how in ("job", "batch", "limit")]
    worker = worker_process("default", concurrency=3)
    eventually(lambda: all(job.state == "dead" for job in jobs))

    assert {job.reason for job in jobs} == {"TimedOut: The attempt took longer than its 1 seconds."}
    assert all("waiting.py" in str(job.latest_result().exc_string) for job in jobs)
    assert "did not come back" not in worker.output
    assert worker.stop() == 0


def test_a_job_cannot_wait_for_itself(worker):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "before_wait", waiting.before_wait)
        patch.setattr(runtime, "raise_interrupt", None)
        waits.watch(["default"])
        job = WaitTooLong.defer("itself")
        worker.run()
    assert "cannot wait for itself" in job.reason
