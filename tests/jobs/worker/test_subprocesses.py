"""The processes that one thread has started are killed with their descendants, and no others."""

import os
import subprocess
import sys
import threading
from multiprocessing import get_context, resource_tracker
from pathlib import Path

import pytest

from jobs.worker import subprocesses
from jobs.worker.subprocesses import kill_started_by
from tests.jobs.worker import eventually

TREE = ["/bin/sh", "-c", "sleep 600 & sleep 601 & echo $!; wait"]


def commands_below(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ").strip() for child in children}


@pytest.fixture
def thread():
    """A thread that starts the processes of `thread.start_process(...)`, and lives until the test ends."""
    wanted, started, over = [], [], threading.Event()

    def work():
        while not over.wait(0.01):
            while wanted:
                started.append(wanted.pop()())

    thread = threading.Thread(target=work)
    thread.start()

    def start_process(start):
        wanted.append(start)
        return eventually(lambda: started and started.pop())

    thread.start_process = start_process
    yield thread
    over.set()
    thread.join()


def test_descendants_are_killed_and_other_threads_processes_live(thread):
    theirs = thread.start_process(lambda: subprocess.Popen(TREE, stdout=subprocess.PIPE))
    theirs.stdout.readline()
    eventually(lambda: commands_below(theirs.pid) == {"sleep 600", "sleep 601"})  # the shell's forks have become these
    with subprocess.Popen(["/bin/sleep", "602"]) as ours:
        killed = kill_started_by(thread.native_id)
        assert ours.poll() is None
        ours.kill()

    assert theirs.wait(20) == -9
    assert killed[0].pid == theirs.pid
    assert [each.command for each in killed[1:]] == ["sleep 600", "sleep 601"]
    theirs.stdout.close()
    assert kill_started_by(thread.native_id) == []


def test_helpers_of_the_whole_process_are_spared(thread, monkeypatch):
    monkeypatch.setattr(resource_tracker, "_resource_tracker", resource_tracker.ResourceTracker())
    thread.start_process(lambda: resource_tracker._resource_tracker.ensure_running() or True)
    tracker = resource_tracker._resource_tracker._pid

    assert kill_started_by(thread.native_id) == []
    assert os.waitpid(tracker, os.WNOHANG) == (0, 0)
    resource_tracker._resource_tracker._stop()


def test_without_the_kernels_list_no_process_is_killed(monkeypatch):
    assert kill_started_by(2**22 + 1) == []
    assert subprocesses._threads(2**22 + 1) == []
    killed = []
    subprocesses._kill(2**22 + 1, os.getpid(), killed)
    subprocesses._kill(os.getppid(), os.getpid(), killed)  # no child of ours
    assert killed == []
    assert get_context("fork") and sys.platform
