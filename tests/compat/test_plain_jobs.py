"""Plain RQ jobs run on our worker with RQ's own meaning, and under our rules about what a payload may do."""

import subprocess
import sys
from pathlib import Path

import django_rq
import pytest
from rq import Callback, Queue, Repeat, Retry, SimpleWorker, Worker
from rq.command import send_stop_job_command
from rq.group import Group
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer, PickleSerializer
from rq.webhook import Webhook

from jobs.broker.connections import get_connection
from jobs.job import MandateJob
from tests.jobs.worker import eventually
from tests.sample import functions
from tests.sample.commands.long import Patient
from tests.sample.commands.notes import WriteNote
from tests.sample.models import Note

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def queue():
    return django_rq.get_queue("default")


def drain(worker_process, **options):
    worker = worker_process("default", burst=True, **options)
    assert worker.wait() == 0, worker.output
    return worker


def reason(job):
    return MandateJob.fetch(job.id, connection=job.connection).reason or ""


def test_results_failures_and_callbacks(queue, worker_process):
    done = queue.enqueue(functions.add, 2, 3, on_success=Callback(functions.note_success))
    failed = queue.enqueue(functions.fail, on_failure=Callback(functions.note_failure))

    drain(worker_process)

    assert (done.return_value(), done.get_status()) == (5, "finished")
    assert failed.is_failed
    assert "RuntimeError: no luck" in failed.latest_result().exc_string
    assert reason(failed) == "RuntimeError: no luck"
    assert set(Note.objects.values_list("text", flat=True)) == {"success: 5", "failure: RuntimeError"}


def test_a_function_with_yield_is_what_stock_rq_makes_of_it(queue, worker_process):
    ours = queue.enqueue(functions.count_lazily)
    drain(worker_process)
    stock = queue.enqueue(functions.count_lazily)
    SimpleWorker([queue], connection=queue.connection, serializer=JSONSerializer).work(burst=True)

    expected = "failed" if sys.version_info < (3, 12) else "finished"  # asyncio took generators for coroutines
    assert ours.get_status() == stock.get_status() == expected
    assert ours.return_value() == stock.return_value()


def test_retry_and_repeat(queue, worker_process):
    retried = queue.enqueue(functions.fail_once, "once", retry=Retry(max=2))
    exhausted = queue.enqueue(functions.fail, retry=Retry(max=1))
    repeated = queue.enqueue(functions.write_note, "again", repeat=Repeat(times=2, interval=0))

    drain(worker_process)

    assert retried.return_value() == "once"
    assert exhausted.is_failed
    assert Note.objects.filter(text="again").count() == 3
    assert repeated.get_status() == "finished"


def test_an_attempt_that_ends_by_itself_clears_a_job_of_being_poison(queue, worker_process):
    job = queue.enqueue(functions.fail_once, "once", retry=Retry(max=2, interval=60))
    queue.connection.hset(job.key, "interruptions", 2)

    drain(worker_process)

    assert job.get_status() == "scheduled"
    assert queue.connection.hget(job.key, "survived") == b"2"


def test_dependencies_on_plain_jobs_and_on_commands(queue, worker_process):
    first = queue.enqueue(functions.write_note, "first")
    second = queue.enqueue(functions.write_note, "second", depends_on=first)
    command = WriteNote.defer("command")
    forgotten = WriteNote.defer("forgotten")
    get_connection("default").hset(forgotten.key, "result_ttl", 0)
    third = queue.enqueue(functions.write_note, "third", depends_on=[command, second, forgotten])
    assert third.is_deferred

    drain(worker_process)

    assert third.get_status() == "finished"
    assert Note.objects.order_by("pk").last().text == "third"


def test_groups(queue, worker_process):
    group = Group.create(connection=queue.connection)
    jobs = group.enqueue_many(queue, [Queue.prepare_data(functions.add, args=(n, n)) for n in range(3)])

    drain(worker_process)

    assert [job.return_value() for job in jobs] == [0, 2, 4]


@pytest.mark.parametrize("callback", ["on_success", "on_failure"])
def test_a_callback_that_jobs_may_not_call_is_not_called(callback, queue, worker_process, tmp_path):
    marker = tmp_path / "touched"
    function = functions.add if callback == "on_success" else functions.fail
    args = (1, 2) if callback == "on_success" else ()
    job = queue.enqueue(function, *args, **{callback: Callback("os.system")})

    drain(worker_process)

    assert job.is_failed
    assert "Jobs may not call 'os.system'" in job.latest_result().exc_string
    assert not marker.exists()


def test_a_function_that_jobs_may_not_call_is_dead_with_the_reason(queue, worker_process):
    job = queue.enqueue("os.system", "true")

    drain(worker_process)

    assert job.is_failed
    assert "Jobs may not call 'os.system'" in job.latest_result().exc_string


def test_a_webhook_goes_to_allowed_hosts_alone(queue, worker_process):
    job = queue.enqueue(functions.add, 1, 2, webhooks=[Webhook("http://127.0.0.1:9/hook", "finished")])

    worker = drain(worker_process)

    assert job.return_value() == 3
    assert "no webhook to 127.0.0.1: the host '127.0.0.1', port 9, is not in JOBS['WEBHOOK_HOSTS']" in worker.output


def test_a_pickle_is_refused_with_the_reason(worker_process):
    queue = Queue("default", connection=get_connection("default"), serializer=PickleSerializer)
    job = queue.enqueue(functions.add, 1, 2)
    after = WriteNote.defer("after")

    drain(worker_process)

    assert job.is_failed
    assert "The payload is pickled" in reason(job)
    assert after.state == "finished"


def test_a_pickle_is_read_where_the_project_allows_it(worker_process):
    queue = Queue("default", connection=get_connection("default"), serializer=PickleSerializer)
    job = queue.enqueue(functions.add, 1, 2)

    drain(worker_process, env={"DJANGO_SETTINGS_MODULE": "tests.pickled"})

    assert job.return_value() == 3


def test_rqs_readers_see_our_workers_at_work(worker_process, tmp_path, valkey):
    started, release = tmp_path / "started", tmp_path / "release"
    job = Patient.defer(str(started), str(release))
    worker_process("default", "low", name="ours", env={"DJANGO_SETTINGS_MODULE": "tests.faulty", "EVERY": "0.5"})
    eventually(started.exists)
    client = django_rq.get_connection("default")

    def busy():
        (seen,) = Worker.all(connection=client)
        return seen if seen.get_state() == "busy" and seen.get_current_job_id() == job.id else None

    seen = eventually(busy)
    assert (seen.name, seen.queue_names()) == ("ours", ["default", "low"])
    rq = Path(sys.executable).with_name("rq")
    info = subprocess.run([rq, "info", "--url", valkey.url], capture_output=True, text=True, check=True, timeout=20)
    assert "ours" in info.stdout
    assert "busy" in info.stdout

    release.touch()
    eventually(lambda: Worker.all(connection=client)[0].successful_job_count == 1)
    eventually(lambda: Worker.all(connection=client)[0].get_state() == "idle")


def test_stop_job_stops_for_good_and_calls_the_stopped_callback_alone(queue, worker_process):
    job = queue.enqueue(
        functions.nap,
        60,
        retry=Retry(max=2),
        on_stopped=Callback(functions.note_slowly),
        on_failure=Callback(functions.note_failure),
    )
    worker_process("default")
    eventually(lambda: job.get_status() == JobStatus.STARTED)
    send_stop_job_command(queue.connection, job.id)

    eventually(lambda: job.get_status() == JobStatus.STOPPED)
    assert list(Note.objects.values_list("text", flat=True)) == ["slowly"]
    assert job.latest_result().exc_string == "Job stopped by user, work-horse terminated."
    eventually(lambda: reason(job) == "Job stopped by user, work-horse terminated.")  # noted after RQ's own record
    job.refresh()
    assert job.retries_left == 2
    assert queue.connection.zscore("rq:failed:default", job.id) is not None
    assert queue.connection.zcard("rq:wip:default") == 0


@pytest.mark.parametrize("kind", [Job, MandateJob])
@pytest.mark.parametrize(("enqueue_dependents", "expected"), [(False, "deferred"), (True, "finished")])
def test_rqs_cancel_of_a_running_job_releases_dependents_only_where_rq_does(
    kind, enqueue_dependents, expected, queue, worker_process, tmp_path
):
    """RQ's cancel lets the job go on. At its end RQ's worker enqueues no dependents, for it was cancelled."""
    release = tmp_path / "release"
    job = queue.enqueue(functions.wait, str(release))
    after = queue.enqueue(functions.add, 1, 2, depends_on=job)
    worker_process("default")
    eventually(lambda: Note.objects.filter(text="begun").exists())
    cancelled = kind.fetch(job.id, connection=queue.connection, serializer=JSONSerializer)
    cancelled.cancel(enqueue_dependents=enqueue_dependents)
    release.touch()
    eventually(lambda: job.get_status() == "finished")
    last = WriteNote.defer("last")
    eventually(lambda: last.state == "finished" and not queue.connection.exists("jobs:releasing"))

    assert after.get_status() == expected
