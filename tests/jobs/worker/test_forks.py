"""Processes that jobs start: a fork of a worker does not act as one, and none inherits the worker's signal handlers."""

import os
import signal
import subprocess
import sys

import pytest

from jobs.attempts import forks
from jobs.broker.connections import get_connection
from jobs.queues import get_queue
from tests.jobs.worker import eventually
from tests.sample.commands.notes import WriteNote
from tests.sample.commands.processes import Fork, ForkAsync, InterruptProgram, UsePools
from tests.sample.functions import fork_and_return
from tests.sample.models import Note

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

ENDS = {"return": 0, "0": 0, "7": 7, "raise": 1, "query": 0, "interrupt": 1, "signals": 0}


@pytest.mark.parametrize("how", ENDS)
def test_a_fork_ends_with_the_jobs_code_and_the_worker_goes_on(how, worker_process):
    job, after = Fork.defer(how), WriteNote.defer("after")
    # One thread: SQLite remembers in the fork, for ever, that another thread held a lock on the file.
    worker = worker_process("default", concurrency=1, burst=True)

    assert worker.wait() == 0, worker.output
    assert (job.state, after.state) == ("finished", "finished")
    texts = set(Note.objects.values_list("text", flat=True))
    assert texts == {f"{how}: {ENDS[how]}", "after"} | ({"from the fork"} if how == "query" else set()), worker.output
    assert ("ValueError: in the fork" in worker.output) == (how == "raise")
    assert worker.output.count("performed sample.Fork") <= 1
    assert get_connection("default").hget(job.key, "interruptions") is None


def test_a_fork_of_a_coroutine_ends_with_the_jobs_code(worker_process):
    job = ForkAsync.defer()
    assert worker_process("default", concurrency=1, burst=True).wait() == 0
    assert job.return_value() == 5


def test_a_fork_of_a_plain_job_ends_with_the_jobs_code(worker_process):
    job = get_queue("default").enqueue(fork_and_return)
    worker = worker_process("default", concurrency=1, burst=True)

    assert worker.wait() == 0, worker.output
    assert job.return_value() == 0
    assert len(job.results()) == 1


def test_pools_work_and_their_processes_can_be_terminated(worker_process):
    job = UsePools.defer()
    worker = worker_process("default", concurrency=1, burst=True)

    assert worker.wait() == 0, worker.output
    assert job.return_value() == [-signal.SIGTERM, [0, 2, 4], [0, 2, 4]]


def test_a_program_that_a_job_starts_can_be_interrupted(worker_process):
    job = InterruptProgram.defer()
    worker = worker_process("default", concurrency=1, burst=True)

    assert worker.wait() == 0, worker.output
    assert job.return_value() == -signal.SIGINT


SCRIPT = """
import os, signal, sys
import django
django.setup()
from jobs.attempts import forks
from jobs.attempts.interrupt import Interruptible
forks.watch(lambda: 1 / 0, {{signal.SIGTERM}})
thread = Interruptible()
def call():
    thread._lock.acquire()  # as the main thread has it while it interrupts
    if os.fork() == 0:
        {ending}
    thread._lock.release()
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
thread.run(object(), call)
"""


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        ("return", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(300)", 44, ""),
        ("sys.exit('a reason')", 1, "a reason\n"),
        ("raise KeyError('\\udc80')", 1, "KeyError: '\\udc80'\n"),
    ],
)
def test_a_fork_ends_whatever_locks_were_held_and_whatever_fails_on_the_way(ending, code, said):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(ending=ending)], capture_output=True, text=True, timeout=60, env=os.environ
    )

    assert done.returncode == code, done.stderr
    assert "ZeroDivisionError" in done.stderr  # what could not be let go of is said, and stops nothing
    assert done.stderr.endswith(said)


def test_leave_if_forked_does_nothing_in_a_worker():
    forks.leave_if_forked()
    assert eventually(lambda: True)
