"""
Long jobs, while their workers are killed with -9, stopped and continued, and replaced by deployments. Afterwards the
loop in transactions has graded each row exactly once; the one without has skipped nothing, and repeated what it may.

In full, for each database:

    LONG_KILLS=500 LONG_STOPS=50 LONG_STOP=40 LONG_ROWS=100000 DB=postgres pytest tests/chaos/test_long_jobs.py
"""

import contextlib
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from django.db import connection
from django.db.models import Max, Min, Sum

from jobs import control
from jobs.broker.connections import get_connection
from jobs.inspection import JobQuery
from jobs.job import JobState
from tests.sample.commands.steps import Grade, Walk
from tests.sample.models import Batch, Run, Submission

KILLS, STOPS = int(os.environ.get("LONG_KILLS", "8")), int(os.environ.get("LONG_STOPS", "2"))
STOP = float(os.environ.get("LONG_STOP", "3"))  # seconds; up to 30 the time after which a worker is dead is shortened
ROWS = int(os.environ.get("LONG_ROWS", "1500"))
DEPLOYMENTS = int(os.environ.get("LONG_DEPLOYMENTS", "3"))
PAUSE = 0.004  # seconds, at each row
LEVELS = {"postgresql": ["2", "3"], "mysql": ["read committed", "repeatable read"], "sqlite": [""]}[connection.vendor]
AT_ONCE = 2 if connection.vendor == "sqlite" else 10  # jobs that run to their end after the blows
SHORT = {} if STOP > 30 else {"UNSEEN": "2.0", "EVERY": "0.3"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.processes,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(300 + 4 * KILLS + (STOP + 10) * STOPS + ROWS // 20),
]


def processes_of(worker):
    """The parent of a worker, and its children."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
        return worker.pid, *map(int, children)
    return (worker.pid,)


class Strikes:
    """Kills and stops, at random times, of workers that are replaced."""

    def __init__(self, start, number, chance):
        self.start, self.chance = start, chance
        self.workers = [start() for _ in range(number)]
        self.stopped = []  # until when, and which processes

    def kill(self):
        """
        Kill the processes that run jobs, of one worker; every other time with their parent, as a container dies. Where
        the time is not shortened after which a worker is dead, the jobs would only wait for it.
        """
        parent, *children = processes_of(self.chance.choice(self.workers))
        for process in [*children, parent] if SHORT and self.chance.random() < 0.5 else children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def stop(self):
        """Stop a whole worker for a while: others take its jobs, and then it goes on."""
        processes = processes_of(self.chance.choice(self.workers))
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGSTOP)
        self.stopped.append((time.monotonic() + STOP, processes))

    def look(self, *, all_of_them=False):
        """Continue those whose time has come, and replace those that are gone."""
        now = time.monotonic()
        for until, processes in list(self.stopped):
            if until <= now or all_of_them:
                for process in processes:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGCONT)
                self.stopped.remove((until, processes))
        self.workers = [worker if worker.process.poll() is None else self.start() for worker in self.workers]

    def end(self):
        self.look(all_of_them=True)
        for worker in self.workers:
            for process in processes_of(worker):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)


def batches(command, number, **options):
    """Jobs of that command, each with a batch of its own."""
    made = []
    for _ in range(number):
        batch = Batch.objects.create()
        Submission.objects.bulk_create((Submission(batch=batch) for _ in range(ROWS)), batch_size=500)
        made.append((batch.pk, command.defer(batch.pk, pause=PAUSE, **options)))
    return made


def finish(worker_process, env, jobs):
    """Run the jobs to their end, whatever has become of them."""
    client = get_connection("default")
    for _ in range(20):
        if all(job.state == "finished" for _, job in jobs):
            return
        for name in client.zrange("jobs:workers", 0, -1):
            client.zadd("jobs:workers", {name: 1})  # all are gone: the thirty seconds pass
        for job_id in client.zrange("rq:scheduled:default", 0, -1):
            client.zadd("rq:scheduled:default", {job_id: 1})
        for row in JobQuery(state=JobState.DEAD).all(1_000):
            control.retry(row.job)
        assert worker_process("default", burst=True, concurrency=AT_ONCE, env=env).wait(600 + ROWS / 50) == 0
    raise AssertionError([(job.state, job.reason) for _, job in jobs])


def visits(batch):
    return Counter(Submission.objects.filter(batch_id=batch).values_list("processed", flat=True))


@pytest.mark.parametrize("level", LEVELS)
def test_each_row_is_graded_once_and_none_is_skipped(level, worker_process, capsys):
    chance = random.Random(int(os.environ.get("SEED", "1")))
    env = {"DJANGO_SETTINGS_MODULE": "tests.faulty", "LOG_LEVEL": "INFO", "ISOLATION": level, "RESTART_DELAY": "0.05"}
    env |= SHORT
    # On SQLite a stopped writer keeps all others waiting, so the two kinds do not run beside each other there.
    graded, walked = batches(Grade, 1, chunk=25), batches(Walk, 1)
    strikes = Strikes(lambda: worker_process("default", concurrency=2, env=env), 2, chance)
    done = Counter()
    blows = ["kill"] * KILLS + ["stop"] * STOPS
    chance.shuffle(blows)
    try:
        for blow in blows:
            for command, jobs, options in ((Grade, graded, {"chunk": 25}), (Walk, walked, {})):
                if jobs[-1][1].state in ("finished", "dead"):
                    jobs += batches(command, 1, **options)
            until, latest = time.monotonic() + chance.uniform(0.3, 2.5), time.monotonic() + 60
            while time.monotonic() < until:
                strikes.look()
                time.sleep(0.05)
                if time.monotonic() < latest and {graded[-1][1].state, walked[-1][1].state}.isdisjoint({"running"}):
                    until = time.monotonic() + chance.uniform(0.0, 1.0)  # a blow is to hit a job
            getattr(strikes, blow)()
            done[blow] += 1
        while strikes.stopped:
            strikes.look()
            time.sleep(0.05)
    finally:
        strikes.end()
    finish(worker_process, env, graded + walked)

    once = [visits(batch) for batch, _ in graded]
    assert once == [{1: ROWS}] * len(graded)
    repeated = 0
    for batch, _ in walked:
        found = visits(batch)
        assert sum(found.values()) == ROWS and 0 not in found, "nothing is skipped"
        total = Submission.objects.filter(batch_id=batch).aggregate(total=Sum("processed"))["total"]
        repeated += total - ROWS
        ended = Run.objects.filter(number=batch, ended=True).aggregate(first=Min("pk"))["first"]
        begun = Run.objects.filter(number=batch, ended=False).aggregate(last=Max("pk"))["last"]
        assert begun < ended, "a step that had ended ran again"
    # A second of work, and the item in hand; one that stands still goes on until its next write is refused.
    most = (done["kill"] + 2 * done["stop"]) * (1 / PAUSE + 2)
    interrupted = sum(int(get_connection("default").hget(job.key, "interruptions") or 0) for _, job in graded + walked)
    with capsys.disabled():
        print(
            f"\n{connection.vendor} {level}: {dict(done)}, {len(graded)} + {len(walked)} jobs of {ROWS:,} rows, "
            f"{interrupted} interruptions, repeated without a transaction: {repeated} (at most {most:.0f})"
        )
    assert repeated <= most


def test_deployments_cost_no_retry_and_repeat_nothing(worker_process, capsys):
    env = {"DJANGO_SETTINGS_MODULE": "tests.faulty", "LOG_LEVEL": "INFO"}
    jobs = batches(Grade, 1, chunk=25) + batches(Walk, 1)
    worker = worker_process("default", concurrency=2, env=env)
    for _ in range(DEPLOYMENTS):
        time.sleep(1.5)
        successor = worker_process("default", concurrency=2, env=env)
        assert worker.stop() == 0
        worker = successor
    assert worker.stop() == 0
    resumed = 0
    for batch, job in jobs:
        fields = get_connection("default").hgetall(job.key)
        assert (job.progress.attempts, fields.get(b"interruptions")) == (0, None)
        resumed += sum(event.name == "resumed" for event in job.history)
        assert set(visits(batch)) <= {0, 1}
    assert resumed
    finish(worker_process, env, jobs)
    assert [visits(batch) for batch, _ in jobs] == [{1: ROWS}] * 2
    with capsys.disabled():
        print(f"\n{connection.vendor}: {DEPLOYMENTS} deployments, {resumed} resumptions, nothing repeated")
