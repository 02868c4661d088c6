"""redis-py works without hiredis, by a parser of its own, and so do a web process, a worker and the doctor."""

import os
import subprocess
import sys

import pytest

from config.queues import QUEUES
from jobs.broker.connections import get_connection
from jobs.queues import get_queue
from tests.jobs.worker import eventually
from tests.jobs.worker.servers import Server
from tests.processes import ROOT, child_environment
from tests.sample import functions
from tests.sample.commands.notes import WriteNote
from tests.sample.models import Note

DEFER = """
import redis.connection, sys
from tests.sample.commands.notes import WriteNote
assert "hiredis" not in sys.modules and "Hiredis" not in str(redis.connection.DefaultParser)
print("state:", WriteNote.defer("from the web").state)
"""


@pytest.fixture
def environment(tmp_path, settings, monkeypatch):
    """A server on TCP, and the environment of processes that cannot import hiredis."""
    folder = tmp_path / "blocked"
    folder.mkdir()
    (folder / "hiredis.py").write_text("raise ImportError('blocked by the test')\n")
    with Server(tmp_path / "server", "appendonly yes") as server:
        server.use(settings, monkeypatch)
        yield {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


def manage(environment, *words):
    return subprocess.run(
        [sys.executable, "manage.py", *words],
        env=child_environment(**environment),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_jobs_are_deferred_and_run_and_the_doctor_finds_nothing(environment, worker_process):
    defer = manage(environment, "shell", "-c", DEFER)
    assert "state: queued" in defer.stdout, defer.stderr
    plain = get_queue("default").enqueue(functions.add, 2, 3)
    later = WriteNote.defer("later", wait=1)
    worker = worker_process(*QUEUES, fresh=True, env=environment)
    eventually(lambda: later.state == "finished")
    eventually(lambda: plain.get_status(refresh=True) == "finished")
    assert set(Note.objects.values_list("text", flat=True)) == {"from the web", "later"}
    get_connection("default").client_kill_filter(_type="normal", skipme=True)
    again = WriteNote.defer("again")
    eventually(lambda: again.state == "finished")

    doctor = manage(environment, "jobs_doctor")
    # With DB=postgres the tests' second database is in this process alone.
    errors = [
        line for line in doctor.stdout.splitlines() if line.startswith("ERROR") and "database 'other'" not in line
    ]
    assert errors == [], doctor.stdout + worker.output
