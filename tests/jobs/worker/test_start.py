"""The start of a worker's processes, each under a unique name."""

import os
import signal

import pytest

from jobs.broker.connections import get_connection
from jobs.worker.parent import Parent
from jobs.worker.process import Process
from jobs.worker.remote_commands import Remote
from jobs.worker.scoreboard import Board
from jobs.worker.settings import WorkerSettings
from tests.jobs.worker import eventually
from tests.sample.commands.long import Patient
from tests.sample.models import Note

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

FAULTY = {"DJANGO_SETTINGS_MODULE": "tests.faulty"}


@pytest.fixture
def patient(tmp_path):
    """A job that runs until `release` is touched; `begun` exists once it runs."""
    begun, release = tmp_path / "begun", tmp_path / "release"
    job = Patient.defer(str(begun), str(release))
    job.begun, job.release = begun, release
    return job


def test_a_worker_whose_children_fail_at_their_start_gives_up_with_the_reason(worker_process, patient):
    """The other child's job goes back to its queue, as at any stop."""
    env = FAULTY | {"FAILING_START": "ours.1.", "RESTART_DELAY": "0.01", "GRACE": "0.5"}
    worker = worker_process("default", name="ours", processes=2, env=env)
    eventually(patient.begun.exists)

    assert worker.wait() == 1
    said = "giving up: 5 processes in a row died as soon as they started; the last one ended by itself with code 1"
    assert f"{said}: ImportError: No module named 'nowhere'\n" in worker.output
    assert worker.output.count("Traceback") == 5
    client = get_connection("default")
    assert client.lrange("rq:queue:default", 0, -1) == [patient.id.encode()]
    assert client.hget(patient.key, "interruptions") == b"1"
    assert client.smembers("rq:workers") == set()


def test_children_that_are_killed_at_work_are_always_replaced(worker_process, patient):
    worker = worker_process("default", concurrency=1, env=FAULTY | {"RESTART_DELAY": "0.1"})
    for _ in range(2):  # the third time it would be poison
        eventually(patient.begun.exists)
        patient.begun.unlink()
        (child,) = children(worker.pid)
        os.kill(child, signal.SIGKILL)
    eventually(patient.begun.exists)
    patient.release.touch()
    eventually(lambda: patient.state == "finished")


def test_a_worker_started_under_the_name_of_a_killed_one_does_not_pass_for_it(worker_process, patient):
    first = worker_process("default", name="ours")
    eventually(patient.begun.exists)
    first.kill()
    os.killpg(first.pid, signal.SIGKILL)  # its children, in the session that it had made
    patient.begun.unlink()
    worker_process("default", name="ours")
    get_connection("default").zadd("jobs:workers", {"ours": 1})  # the thirty seconds pass
    eventually(patient.begun.exists)
    patient.release.touch()
    eventually(lambda: patient.state == "finished")

    assert get_connection("default").hget(patient.key, "interrupted_by") == b"ours"
    assert Note.objects.count() == 1


def test_a_name_is_free_again_after_a_stop(worker_process):
    for _ in range(2):
        worker = worker_process("default", name="ours")
        assert worker.names == {"ours"}
        assert worker.stop() == 0


def test_a_worker_hears_commands_as_soon_as_it_is_listed(monkeypatch):
    """A command that comes before somebody listens is lost."""
    listed = []
    client = get_connection("default")
    monkeypatch.setattr(Remote, "listen", lambda remote, name: listed.append(client.sismember("rq:workers", name)))

    Parent(WorkerSettings(queues={"default": None}, concurrency=1, processes=1))._register(Process("ours", 0, Board(1)))

    assert (listed, client.smembers("rq:workers")) == ([0], {b"rq:worker:ours"})


def test_a_burst_says_what_stays_in_queues_that_it_may_not_take_from(worker_process):
    client = get_connection("default")
    Patient.defer("begun", "release")
    client.set("rq:suspended", 1)
    worker = worker_process("default", burst=True)
    assert worker.wait() == 0
    assert "jobs stay in the queue default: all queues are suspended" in worker.output
    client.delete("rq:suspended")
    client.sadd("jobs:paused", "default")
    worker = worker_process("default", burst=True)
    assert worker.wait() == 0
    assert "jobs stay in the queue default: it is paused" in worker.output


def test_a_burst_has_to_do_with_what_became_due_as_its_child_ended(valkey):
    parent = Parent(WorkerSettings(queues={"default": None}, concurrency=1, processes=1, burst=True))
    job = Patient.defer("begun", "release", wait=60)
    assert not parent._has_work()
    job.connection.zadd("rq:scheduled:default", {job.id: 1})

    assert parent._has_work()


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]
