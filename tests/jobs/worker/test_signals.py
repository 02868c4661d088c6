"""Workers that are stopped, quieted, killed or stalled, and the fate of their jobs."""

import os
import signal

import pytest
from rq.command import send_shutdown_command, send_stop_job_command

from jobs.broker.connections import get_connection
from jobs.queues import pause, paused, resume
from tests.jobs.worker import eventually
from tests.sample.commands.long import Patient, SpinLong
from tests.sample.commands.notes import WriteNote
from tests.sample.models import Note

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def patient(tmp_path):
    """A job that runs until `release` is touched; `started` exists once it runs."""
    started, release = tmp_path / "started", tmp_path / "release"
    job = Patient.defer(str(started), str(release))
    job.begun, job.release = started, release
    return job


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def make_old(client):
    """Let the thirty seconds without a beat pass."""
    for name in client.zrange("jobs:workers", 0, -1):
        client.zadd("jobs:workers", {name: 1})


def test_term_lets_running_jobs_end_and_takes_no_more(worker_process, patient):
    worker = worker_process("default", concurrency=1, env={"LOG_LEVEL": "INFO"})
    eventually(patient.begun.exists)
    waiting = WriteNote.defer("waiting")
    worker.process.terminate()
    eventually(lambda: "taking no more jobs" in worker.output)
    patient.release.touch()

    assert worker.wait() == 0, worker.output
    assert patient.state == "finished"
    assert waiting.state == "queued"
    assert get_connection("default").smembers("rq:workers") == set()


def test_term_puts_a_job_that_does_not_end_back_at_the_head(worker_process, patient):
    env = {"DJANGO_SETTINGS_MODULE": "tests.faulty", "GRACE": "0.5"}
    worker = worker_process("default", concurrency=1, env=env)
    eventually(patient.begun.exists)
    WriteNote.defer("behind")
    worker.process.terminate()

    assert worker.wait() == 0, worker.output
    assert get_connection("default").lindex("rq:queue:default", 0).decode() == patient.id
    assert get_connection("default").hmget(patient.key, "interruptions", "survived") == [b"1", b"1"]  # not suspect

    patient.release.touch()
    assert worker_process("default", burst=True).wait() == 0
    assert patient.state == "finished"


def test_a_worker_that_is_quiet_takes_nothing_and_stays(worker_process, patient):
    worker = worker_process("default", concurrency=2)
    eventually(patient.begun.exists)
    os.kill(worker.pid, signal.SIGTSTP)
    eventually(lambda: "quiet" in worker.output)
    waiting = WriteNote.defer("waiting")
    patient.release.touch()
    eventually(lambda: patient.state == "finished")

    assert waiting.state == "queued"
    assert worker.process.poll() is None
    (child,) = children(worker.pid)
    os.kill(child, signal.SIGRTMIN + 5)
    eventually(lambda: worker.output.count("quiet") > 1)  # so is its successor
    assert f"was killed by signal {signal.SIGRTMIN + 5}" in worker.output
    assert waiting.state == "queued"


def test_a_worker_shows_its_stacks(worker_process, patient):
    worker = worker_process("default")
    eventually(patient.begun.exists)
    os.kill(worker.pid, signal.SIGTTIN)
    eventually(lambda: "long.py" in worker.output and "in call" in worker.output)
    patient.release.touch()


def test_a_killed_child_is_replaced_and_its_job_run_again_at_once(worker_process, patient):
    worker = worker_process("default")
    eventually(patient.begun.exists)
    (child,) = children(worker.pid)
    os.kill(child, signal.SIGKILL)
    eventually(lambda: children(worker.pid) not in ([], [child]))
    patient.release.touch()
    eventually(lambda: patient.state == "finished")

    assert get_connection("default").hget(patient.key, "interruptions") in {b"1", None}


def test_children_leave_when_their_parent_is_killed(worker_process, patient):
    worker = worker_process("default")
    eventually(patient.begun.exists)
    (child,) = children(worker.pid)
    worker.kill()
    eventually(lambda: "the parent is gone" in worker.output)
    patient.release.touch()
    eventually(lambda: not os.path.exists(f"/proc/{child}"))

    assert patient.state == "finished"
    assert worker.output.count("the parent is gone") == 1


def test_a_worker_that_stalled_finds_its_late_result_refused(worker_process, patient):
    stalled = worker_process("default", env={"DJANGO_SETTINGS_MODULE": "tests.faulty", "EVERY": "0.5"})
    eventually(patient.begun.exists)
    (child,) = children(stalled.pid)
    for pid in (stalled.pid, child):
        os.kill(pid, signal.SIGSTOP)
    make_old(get_connection("default"))
    patient.release.touch()
    assert worker_process("default", burst=True).wait() == 0
    assert patient.state == "finished"
    for pid in (child, stalled.pid):
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: f"refused late result of job {patient.id}: taken over by" in stalled.output)

    assert Note.objects.count() == 2
    after = WriteNote.defer("after")
    eventually(lambda: after.state == "finished")


def test_rqs_own_commands_stop_a_job_and_the_worker(worker_process, tmp_path):
    job = SpinLong.defer(str(tmp_path / "started"))
    worker = worker_process("default")
    eventually((tmp_path / "started").exists)
    client = get_connection("default")

    send_stop_job_command(client, job.id)
    eventually(lambda: job.state == "dead")
    assert job.reason == "stopped on request"

    (name,) = worker.names
    send_shutdown_command(client, name)
    assert worker.wait() == 0


def test_one_queue_is_paused_and_resumed_for_every_worker(worker_process):
    pause("default")
    assert paused() == {"default"}
    worker_process("critical", "default")
    held, other = WriteNote.defer("held"), WriteNote.defer("other", queue="critical")
    eventually(lambda: other.state == "finished")
    assert held.state == "queued"

    resume("default")
    eventually(lambda: held.state == "finished", timeout=15)  # not after the 30 s for which an idle worker waits
    pause("default")
    eventually(lambda: WriteNote.defer("x").state == "queued")


def test_jobs_survive_the_server_being_killed_and_started_again(worker_process, patient, valkey):
    worker = worker_process("default")
    eventually(patient.begun.exists)
    valkey.kill()
    patient.release.touch()
    eventually(lambda: "no answer from Redis" in worker.output)
    valkey.start()
    eventually(lambda: patient.state == "finished")
    after = WriteNote.defer("after")
    eventually(lambda: after.state == "finished")

    assert Note.objects.count() == 2
    assert worker.process.poll() is None


def test_connections_cut_under_load_lose_and_repeat_nothing(worker_process, valkey):
    WriteNote.defer_many([(str(n),) for n in range(1_000)])
    worker = worker_process("default", concurrency=2)
    client = valkey.client()
    for _ in range(10):
        before = client.llen("rq:queue:default")
        client.client_kill_filter(_type="normal", skipme=True)
        eventually(lambda before=before: client.llen("rq:queue:default") < max(before, 1), timeout=60)
    eventually(lambda: client.zcard("rq:finished:default") == 1_000, timeout=120)

    assert Note.objects.count() == 1_000
    assert worker.process.poll() is None


def test_a_signal_that_comes_while_the_process_commits_does_not_stop_it_for_ever(worker_process, patient):
    env = {"DJANGO_SETTINGS_MODULE": "tests.faulty", "SIGNAL_IN_STEP": "1"}
    worker = worker_process("default", concurrency=2, env=env)
    eventually(patient.begun.exists)
    os.kill(worker.pid, signal.SIGTSTP)
    eventually(lambda: worker.output.count("quiet") > 1)
    patient.release.touch()
    eventually(lambda: patient.state == "finished")
    assert worker.stop() == 0
