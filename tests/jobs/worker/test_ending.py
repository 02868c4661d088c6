"""The end of a process: only a marked end counts as proper, and exit hooks run, within time limits."""

import os
import signal
import subprocess
import sys

import pytest
from rq.command import send_shutdown_command

from jobs.broker.connections import get_connection
from jobs.worker.scoreboard import ANOTHER, Board
from tests.jobs.worker import eventually
from tests.jobs.worker.test_signals import children
from tests.sample.commands.notes import WriteNote
from tests.sample.commands.processes import AtExit, ExitAtOnce
from tests.sample.models import Note

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

FAULTY = {"DJANGO_SETTINGS_MODULE": "tests.faulty", "RESTART_DELAY": "0.05"}


@pytest.mark.parametrize("code", [0, 1, 3])
def test_no_exit_code_that_a_job_chooses_ends_the_worker(code, worker_process):
    job = ExitAtOnce.defer(code)
    worker = worker_process("default", concurrency=1, env=FAULTY)
    eventually(lambda: job.state == "dead")
    after = WriteNote.defer("after")
    eventually(lambda: after.state == "finished")

    assert job.reason == "poison"
    assert Note.objects.filter(text="begun").count() == 3
    assert worker.output.count(f"ended by itself with code {code}") == 3


def test_no_exit_code_that_a_job_chooses_ends_a_burst(worker_process):
    job, after = ExitAtOnce.defer(0), WriteNote.defer("after")
    worker = worker_process("default", concurrency=1, burst=True, env=FAULTY)

    assert worker.wait() == 0, worker.output
    assert (job.reason, after.state) == ("poison", "finished")


@pytest.mark.parametrize("times", [1, 3])
def test_a_burst_does_not_leave_the_claims_of_its_own_child(times, worker_process):
    """The server did not answer when the parent wanted to give them back."""
    job, after = ExitAtOnce.defer(0), WriteNote.defer("after")
    worker = worker_process("default", concurrency=1, burst=True, env=FAULTY | {"FAILING_SETTLING": str(times)})

    assert worker.wait() == 0, worker.output
    assert (job.reason, after.state) == ("poison", "finished")
    assert get_connection("default").zrange("jobs:workers", 0, -1) == []


def test_a_mark_counts_only_from_the_process_itself():
    board = Board(1)
    assert board.ended(os.getpid()) is None
    board.mark_end(ANOTHER)

    assert board.ended(os.getpid()) == ANOTHER
    assert board.ended(os.getpid() + 1) is None


@pytest.mark.parametrize("by", ["burst", "max_jobs", "stop"])
def test_atexit_callbacks_run_however_a_process_ends(by, worker_process, tmp_path):
    job = AtExit.defer(str(tmp_path / "ran"))
    options = {"burst": {"burst": True}, "max_jobs": {"max_jobs": 1}, "stop": {}}[by]
    worker = worker_process("default", concurrency=1, **options)
    eventually(lambda: job.state == "finished")
    if by == "stop":
        worker.stop()
    eventually((tmp_path / "ran").exists)


def test_a_process_bounds_the_time_of_exit_hooks(worker_process, tmp_path):
    job = AtExit.defer(str(tmp_path / "ran"), stuck=True)
    worker = worker_process("default", concurrency=1, env=FAULTY | {"THREADS": "0.2", "HOOKS": "3"})
    eventually(lambda: job.state == "finished")

    assert worker.stop() == 0
    assert (tmp_path / "ran").exists()  # the last registered is called first
    assert "has not ended after 0.2 s; the process does not wait" in worker.output
    assert "the atexit callbacks have not ended after 3 s" in worker.output
    assert "was killed" not in worker.output


def test_the_parents_finalizers_are_left_to_the_parent(worker_process, tmp_path):
    job = AtExit.defer(str(tmp_path / "ran"))
    env = FAULTY | {"INHERITED_FOLDER": str(tmp_path / "name")}
    worker = worker_process("default", concurrency=1, max_jobs=1, env=env)
    eventually(lambda: job.state == "finished")
    eventually((tmp_path / "ran").exists)

    folder = (tmp_path / "name").read_text()
    assert os.path.isdir(folder)
    assert worker.stop() == 0
    assert not os.path.exists(folder)


# --- a parent that goes on -------------------------------------------------------------------------


def test_a_parent_that_cannot_fork_tries_again(worker_process):
    worker = worker_process("default", env=FAULTY | {"FAILING_FORKS": "2"})
    job = WriteNote.defer("x")
    eventually(lambda: job.state == "finished")

    assert worker.output.count("trying again: [Errno 11] Resource temporarily unavailable") == 2
    client = get_connection("default")
    assert client.scard("rq:workers") == client.zcard("jobs:workers") == 1


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_signals_without_a_meaning_are_logged_and_end_nothing(number, worker_process):
    worker = worker_process("default")
    said = f"{signal.Signals(number).name} means nothing here: TERM or INT stops the worker"
    job = WriteNote.defer("x")
    eventually(lambda: job.state == "finished")  # both have their handlers
    (child,) = children(worker.pid)
    for count, pid in enumerate((worker.pid, child), 1):
        os.kill(pid, number)
        eventually(lambda count=count: worker.output.count(said) == count)

    assert children(worker.pid) == [child]
    assert worker.stop() == 0


def test_a_hangup_that_is_ignored_stays_ignored():
    script = """
import os, signal
from jobs.worker import signals
signal.signal(signal.SIGHUP, signal.SIG_IGN)
received = []
signals.handle_meaningless(received.append)
for number in (signal.SIGHUP, signal.SIGUSR1):
    os.kill(os.getpid(), number)
assert received == [signal.SIGUSR1], received
signals.restore()
assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_stop_by_name_ends_the_worker(worker_process):
    worker = worker_process("default", name="ours")
    send_shutdown_command(get_connection("default"), "ours")
    assert worker.wait() == 0


# --- PID 1 -----------------------------------------------------------------------------------------

ADOPT = """
import ctypes, os, subprocess, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans become ours, as they become PID 1's
from jobs.worker.strangers import Strangers, _children
early = subprocess.Popen(["/bin/sh", "-c", "exit 3"])
strangers = Strangers()
late = subprocess.Popen(["/bin/sh", "-c", "exit 4"])
ours = os.fork()
if ours == 0:
    os._exit(5)
subprocess.run(["/bin/sh", "-c", "(exit 0) & (exit 0) & exit 0"])
mine = {early.pid, late.pid, ours}
until = time.monotonic() + 30
while set(_children()) != mine or any(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT) is None for pid in mine):
    strangers.reap([ours])
    assert time.monotonic() < until, _children()
strangers.reap([ours])
assert (early.wait(), late.wait(), os.waitpid(ours, 0)[1] >> 8) == (3, 4, 5)
"""


def test_adopted_orphans_are_reaped_and_no_other_exit_status_is_read():
    subprocess.run([sys.executable, "-c", ADOPT], check=True, timeout=60)
