"""`manage.py rqscheduler` and the workers' own scheduling, as processes that are killed, stalled and cut off."""

import os
import signal
import time
from collections import Counter
from contextlib import ExitStack
from itertools import pairwise

import pytest

from jobs import scheduler
from jobs.broker.connections import get_connection
from jobs.broker.embedded import dismiss, stop_with_us
from jobs.scheduler import Entry
from tests import template
from tests.faults.recurring import STEPS
from tests.jobs.worker import eventually
from tests.processes import child_environment
from tests.sample.models import Note

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

ENTRIES = [f"e{n}" for n in range(20)]


class SchedulerProcess:
    def __init__(self, log, **env):
        with log.open("ab") as output:
            env = child_environment(DJANGO_SETTINGS_MODULE="tests.faulty_scheduler", **env)
            self.process = template.start(["rqscheduler", "--interval", "0.1"], env, output)
        self._guard = stop_with_us(self.process.pid)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)
        dismiss(self._guard)
        return self.process.returncode


@pytest.fixture
def schedulers(tmp_path):
    with ExitStack() as stack:

        def start(**env):
            process = SchedulerProcess(tmp_path / "scheduler.log", **env)
            stack.callback(process.stop)
            return process

        yield start


def written():
    """The jobs in the queue, by entry, each by the second it is named for."""
    found = {name: [] for name in ENTRIES}
    for job_id in get_connection("default").lrange("rq:queue:default", 0, -1):
        name, _, at = job_id.decode().partition("-")
        found[name].append(int(time.mktime(time.strptime(at, "%Y%m%dT%H%M%SZ"))))
    return found


def test_each_occurrence_once_whatever_dies_or_stalls(schedulers, valkey):
    for name in ENTRIES:
        scheduler.add(Entry(name, "sample.WriteNote", args=(name,), every=1, catch_up="all"))
    begun = time.monotonic()
    for step in STEPS:  # one is killed at each step, with another beside it
        doomed = schedulers(FAULT=f"{step}:2")
        eventually(lambda doomed=doomed: doomed.process.poll() is not None)
        assert doomed.process.returncode == -signal.SIGKILL
    stalled = schedulers()
    before = sum(map(len, written().values()))
    eventually(lambda: sum(map(len, written().values())) > before)
    os.kill(stalled.process.pid, signal.SIGSTOP)
    other = schedulers()
    before = sum(map(len, written().values()))
    eventually(lambda: sum(map(len, written().values())) >= before + 40)  # past the lease of the stalled one
    os.kill(stalled.process.pid, signal.SIGCONT)
    eventually(lambda: time.monotonic() - begun > 12)
    assert stalled.stop() == 0
    assert other.stop() == 0

    found = written()
    assert sum(map(len, found.values())) >= 200
    for name, times in found.items():
        assert Counter(times).most_common(1)[0][1] == 1, f"{name} twice"
        steps = {later - earlier for earlier, later in pairwise(sorted(times))}
        assert steps == {1}, f"{name} has gaps of {steps}"


def test_a_server_that_was_down_over_several_times(schedulers, valkey):
    for catch_up in ("latest", "none", "all"):
        scheduler.add(Entry(catch_up, "sample.WriteNote", args=("x",), every=2, catch_up=catch_up))
    process = schedulers()
    eventually(lambda: all(scheduler.get(name).runs() for name in ("latest", "none", "all")))
    valkey.kill()
    down_at = time.monotonic()
    eventually(lambda: time.monotonic() - down_at > 8)
    valkey.start()
    eventually(lambda: all(len(scheduler.get(name).runs()) > 1 for name in ("latest", "none", "all")))
    eventually(lambda: scheduler.get("none").runs()[0].what == "run")
    assert process.stop() == 0

    histories = {name: scheduler.get(name).runs() for name in ("latest", "none", "all")}
    runs = {name: sorted(run.at for run in lines if run.what == "run") for name, lines in histories.items()}
    gaps = {name: max((b - a).total_seconds() for a, b in pairwise(times)) for name, times in runs.items()}
    assert gaps["all"] == 2
    assert gaps["latest"] >= 6
    assert gaps["none"] >= 4
    assert {name: any(run.what == "missed" for run in lines) for name, lines in histories.items()} == {
        "latest": True,
        "none": True,
        "all": False,
    }


def test_a_worker_schedules_by_itself(worker_process):
    scheduler.add(Entry("often", "sample.WriteNote", args=("by itself",), every=1))
    worker_process("default", concurrency=1)
    eventually(lambda: Note.objects.filter(text="by itself").count() >= 2)


def test_the_process_stops_on_term_and_leaves_its_turn(schedulers):
    process = schedulers()
    client = get_connection("default")
    eventually(lambda: client.exists("rq:scheduler_lock"))
    assert process.stop() == 0
    assert not client.exists("rq:scheduler_lock")


@pytest.mark.parametrize("command", ["rqworker", "rqscheduler"])
def test_it_starts_beside_an_entry_that_cannot_work(command, tmp_path):
    log = tmp_path / "log"
    with log.open("wb") as output:
        env = child_environment(DJANGO_SETTINGS_MODULE="tests.misscheduled")
        process = template.start([command], env, output)
    guard = stop_with_us(process.pid)
    try:
        eventually(lambda: [run for entry in scheduler.entries() for run in entry.runs()], timeout=40)
    finally:
        process.terminate()
        process.wait(40)
        dismiss(guard)
    assert [entry.name for entry in scheduler.entries()] == ["good"]
    assert "jobs.E007" in log.read_text()
