"""A process that retires: its successor starts at once, and its running jobs end undisturbed."""

import os
import signal
import time
from dataclasses import replace

import pytest

from jobs.broker.connections import get_connection
from jobs.worker import children as children_module
from jobs.worker.children import Children
from jobs.worker.process import Process
from jobs.worker.scoreboard import ANOTHER, NO_MORE, Board
from jobs.worker.settings import WorkerSettings
from tests.jobs.worker import eventually
from tests.jobs.worker.test_signals import children
from tests.sample.commands.long import Deaf, Patient
from tests.sample.commands.notes import WriteNote
from tests.sample.commands.processes import Hang

FAULTY = {"DJANGO_SETTINGS_MODULE": "tests.faulty", "GRACE": "0.5", "INTERRUPT_GRACE": "1", "LOG_LEVEL": "INFO"}


@pytest.fixture
def patient(tmp_path):
    """A job that runs until `release` is touched; `begun` exists once it runs."""
    begun, release = tmp_path / "begun", tmp_path / "release"
    job = Patient.defer(str(begun), str(release))
    job.begun, job.release = begun, release
    return job


def interruptions(job):
    return int(get_connection("default").hget(job.key, "interruptions") or 0)


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
class TestWorker:
    def test_a_job_that_waits_for_its_subprocess_returns_when_it_is_killed(self, worker_process, patient, tmp_path):
        pids = tmp_path / "pids"
        hang = Hang.defer(str(pids))
        worker = worker_process("default", concurrency=2, env=FAULTY)
        eventually(patient.begun.exists)
        (old,) = children(worker.pid)
        eventually(lambda: hang.state == "dead")
        after = WriteNote.defer("after")
        eventually(lambda: after.state == "finished")
        for pid in pids.read_text().split():  # what the hanging job had started
            assert f"killed process {pid}, which job {hang.id} has started" in worker.output
            eventually(lambda pid=pid: is_gone(int(pid)))
        patient.release.touch()
        eventually(lambda: patient.state == "finished")

        assert hang.reason.startswith("TimedOut")
        assert interruptions(patient) == 0
        assert children(worker.pid) == [old]

    def test_a_job_beside_one_that_hangs_runs_to_its_end(self, worker_process, patient):
        hang = Deaf.defer()
        worker = worker_process("default", concurrency=2, env=FAULTY)
        eventually(patient.begun.exists)
        (old,) = children(worker.pid)
        eventually(lambda: hang.state == "dead")
        after = WriteNote.defer("after")
        eventually(lambda: after.state == "finished")
        assert old in children(worker.pid)
        assert len(worker.names) == 1
        assert patient.state == "running"
        patient.release.touch()
        eventually(lambda: patient.state == "finished")
        eventually(lambda: old not in children(worker.pid))

        assert interruptions(patient) == 0
        assert len(children(worker.pid)) == 1

    def test_enough_jobs_leave_those_that_run_their_time(self, worker_process, patient):
        worker = worker_process("default", name="ours", concurrency=2, max_jobs=2, env=FAULTY)
        eventually(patient.begun.exists)
        (old,) = children(worker.pid)
        jobs = [WriteNote.defer(str(n)) for n in range(4)]
        eventually(lambda: all(job.state == "finished" for job in jobs))
        assert old in children(worker.pid)
        assert patient.state == "running"
        patient.release.touch()
        eventually(lambda: patient.state == "finished")
        eventually(lambda: old not in children(worker.pid))

        assert interruptions(patient) == 0
        assert worker.stop() == 0
        assert get_connection("default").smembers("rq:workers") == set()

    def test_a_retiring_process_has_beats_and_the_usual_time_to_stop(self, worker_process, patient):
        env = FAULTY | {"EVERY": "0.2", "UNSEEN": "8"}
        worker = worker_process("default", concurrency=2, max_jobs=2, env=env)
        eventually(patient.begun.exists)
        job = WriteNote.defer("x")
        eventually(lambda: len(children(worker.pid)) == 2)
        client = get_connection("default")
        (name,) = worker.names
        first = client.zscore("jobs:workers", name)
        eventually(lambda: client.zscore("jobs:workers", name) > first)
        assert job.state == "finished"

        assert worker.stop() == 0
        assert client.lrange("rq:queue:default", 0, -1) == [patient.id.encode()]
        assert client.hmget(patient.key, "interruptions", "survived") == [b"1", b"1"]

    def test_a_retiring_process_ends_by_itself_after_an_outage(self, worker_process, patient, valkey):
        """Outcomes wait for the server without a limit, because the process does not stop."""
        worker = worker_process("default", concurrency=2, max_jobs=2, env=FAULTY)
        eventually(patient.begun.exists)
        (old,) = children(worker.pid)
        WriteNote.defer("x")
        eventually(lambda: len(children(worker.pid)) == 2)
        valkey.kill()
        patient.release.touch()
        eventually(lambda: worker.output.count("could not commit what is done yet") > 5)
        assert old in children(worker.pid)
        valkey.start()
        eventually(lambda: old not in children(worker.pid))

        assert patient.state == "finished"
        assert interruptions(patient) == 0

    def test_a_burst_has_no_successor_when_nothing_is_left(self, worker_process):
        job = Deaf.defer()
        worker = worker_process("default", concurrency=1, burst=True, env=FAULTY)

        assert worker.wait() == 0, worker.output
        assert job.state == "dead"
        assert worker.output.count(" started, pid ") == 1

    def test_a_burst_ends_when_the_jobs_behind_one_that_hangs_are_done(self, worker_process):
        Deaf.defer()
        jobs = [WriteNote.defer(str(n)) for n in range(3)]
        worker = worker_process("default", concurrency=1, burst=True, env=FAULTY)

        assert worker.wait() == 0, worker.output
        assert [job.state for job in jobs] == ["finished"] * 3
        assert worker.output.count(" started, pid ") == 2


def is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


# --- the parent's side -----------------------------------------------------------------------------


@pytest.fixture
def minding(monkeypatch):
    """Fake children: `started` has the numbers of those that were started, `sent` the signals sent to each."""
    minding = Children(WorkerSettings(queues={"default": None}, name="w"), bool, bool, bool, bool)
    minding.started, minding.sent = [], []

    def start(number, blocks):
        process = Process(f"w{len(minding.started)}", number, Board(1))
        process.pid = 1_000_000 + len(minding.started)
        process.started_at -= children_module.RESTART_DELAY
        minding.started.append(number)
        minding._alive.append(process)
        return True

    monkeypatch.setattr(minding, "_start", start)
    monkeypatch.setattr(children_module.os, "kill", lambda *args: minding.sent.append(args))
    minding.start_due(blocks=True)
    return minding


def test_a_retiring_child_has_one_successor_which_starts_at_once(minding):
    (old,) = minding
    minding.hear()
    assert minding.next_start() == float("inf")
    old.board.retire(ANOTHER)
    minding.hear()
    minding.hear()
    assert minding.next_start() <= time.monotonic()
    minding.start_due(blocks=True)
    minding.hear()

    assert minding.started == [0, 0]
    assert len(list(minding)) == 2
    old.board.mark_end(ANOTHER)
    old.pid = os.getpid()  # who marked it
    minding._bury(old, 0)
    assert minding.next_start() == float("inf")


def test_a_child_that_retires_at_its_start_has_its_successor_a_moment_later(minding):
    """A process that is too large from its start must not lead to a storm of forks."""
    (old,) = minding
    old.started_at = time.monotonic()
    old.board.retire(ANOTHER)
    minding.hear()

    assert 0.0 < minding.next_start() - time.monotonic() <= children_module.RESTART_DELAY


def test_a_child_of_a_burst_that_ends_before_its_successor_has_started_has_only_that_one(minding):
    minding._settings, minding._has_work = replace(minding._settings, burst=True), lambda: True
    (old,) = minding
    old.board.retire(ANOTHER)
    minding.hear()
    old.board.mark_end(ANOTHER)
    old.pid = os.getpid()  # who marked it
    minding._bury(old, 0)
    minding.start_due(blocks=True)

    assert minding.started == [0, 0]


@pytest.mark.parametrize("code", [-signal.SIGKILL, 0])
def test_what_a_child_of_a_burst_leaves_is_not_left_to_a_successor_that_has_looked_for_the_last_time(minding, code):
    """Its claim is back in its queue, or its last job has enqueued another."""
    work = ["before"]
    minding._settings, minding._has_work = replace(minding._settings, burst=True), lambda: bool(work)
    minding._settle = lambda process: True
    (old,) = minding
    old.board.retire(ANOTHER)
    minding.hear()
    minding.start_due(blocks=True)
    _, young = minding
    if code == 0:
        old.board.mark_end(ANOTHER)
        old.pid = os.getpid()  # who marked it
    minding._bury(old, code)
    young.board.mark_end(NO_MORE)
    young.pid = os.getpid()
    minding._bury(young, 0)
    minding.start_due(blocks=True)
    assert minding.started == [0, 0, 0]

    work.clear()
    (last,) = minding
    last.board.mark_end(NO_MORE)
    last.pid = os.getpid()
    minding._bury(last, 0)
    assert minding.are_gone


def test_no_successor_starts_when_none_is_wanted_or_the_worker_stops(minding):
    (old,) = minding
    old.board.retire(NO_MORE)
    minding.hear()
    minding.stop()
    old.board.retire(ANOTHER)
    minding.hear()

    assert minding.next_start() == float("inf")


def test_the_number_of_retiring_children_is_bounded(minding, monkeypatch):
    monkeypatch.setattr(children_module, "RETIRED", 2)
    for _ in range(3):
        list(minding)[-1].board.retire(ANOTHER)
        minding.hear()
        minding.start_due(blocks=True)

    first, *others = minding
    assert minding.sent == [(first.pid, signal.SIGTERM)]
    assert len(others) == 3


# --- whom to suspect -------------------------------------------------------------------------------


@pytest.fixture
def process(monkeypatch):
    """A child whose first thread runs a job, whose second has ended one, and whose third has begun none."""
    process = Process("w1", 0, Board(3))
    now = time.monotonic()
    process.board.start(0, now, now + 60, b"a", b"w1.0", b"default")
    process.board.start(1, now, now + 60, b"b", b"w1.1", b"default")
    process.board.end(1)
    process.board.mind()
    monkeypatch.setattr("jobs.worker.process.os.kill", lambda *args: None)
    return process


def test_executions_of_a_child_that_died_by_itself_are_suspect(process):
    assert process.suspects() == ["w1.0"]
    assert process.board.begun() == 1


def test_no_execution_is_suspect_after_a_proper_end_or_a_kill_for_another_job(process):
    process.ended_properly = True
    assert process.suspects() == []
    process.ended_properly = False
    process.kill()
    process.kill(["w1.0"])  # too late
    assert process.suspects() == []


def judged(process, minding=None):
    minding = Children(WorkerSettings(queues={"default": None}), bool, bool, bool, bool)
    minding._alive.append(process)
    minding.judge(since=0.0)
    return process.suspects() if process.is_killed else None


def test_only_the_job_that_cannot_be_interrupted_is_suspect(process, caplog):
    assert judged(process) is None
    long_ago = time.monotonic() - 1_000
    process.board.start(2, long_ago, long_ago + 1, b"c", b"w1.2", b"default")

    assert judged(process) == ["w1.2"]
    assert "lets no thread interrupt job c, which is far past its time-out; killing it" in caplog.text


def test_a_job_that_is_overdue_because_the_main_thread_stalled_is_not_suspect(process):
    process.board._turns[1] = long_ago = time.monotonic() - 1_000
    process.started_at = long_ago
    process.board.start(2, long_ago, long_ago + 1, b"c", b"w1.2", b"default")
    for _ in range(40):
        process.board.breathe()

    assert judged(process) == []


def test_a_child_that_is_stopped_or_ends_for_too_long_is_killed_without_suspects(process, monkeypatch):
    process.stopped_at = time.monotonic() - 1_000
    assert judged(process) == []
    leaving = Process("w2", 0, Board(1))
    now = time.monotonic()
    leaving.board.start(0, now - 1_000, now - 900, b"a", b"w2.0", b"default")
    leaving.board.leave()
    assert judged(leaving) is None
    leaving.leaving_since = now - 1_000
    assert judged(leaving) == []
