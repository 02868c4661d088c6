"""
Atomic commands, while their workers are killed and stopped at each point from the claim to Redis' commit. Afterwards
the database has each effect once, and one receipt for each.

A round is one strike. In full, with workers stopped for as long as makes them dead and more:

    ATOMIC_ROUNDS=1000 pytest tests/chaos/test_atomic.py
    ATOMIC_ROUNDS=60 ATOMIC_STOP=40 pytest tests/chaos/test_atomic.py
"""

import contextlib
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from django.db import connection, transaction

from jobs import control
from jobs.broker.connections import get_connection
from jobs.inspection import JobQuery
from jobs.job import JobState
from jobs.models import Receipt
from tests.faults.apps import STRUCK
from tests.sample.commands.atomic import Count
from tests.sample.models import Batch, Submission

ROUNDS = int(os.environ.get("ATOMIC_ROUNDS", "60"))
STOP = float(os.environ.get("ATOMIC_STOP", "0"))  # seconds; 0: shortened, as is the time after which a worker is dead
KINDS = "stop" if STOP else "child,child,all,stop"
WORKERS, THREADS = (8 if STOP else 4), 2
SHORT, UNSEEN = 3.0, 2.0  # seconds
AHEAD = 40  # jobs that wait
LEVELS = {"postgresql": ["2", "3"], "mysql": ["read committed", "repeatable read"], "sqlite": [""]}[connection.vendor]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.processes,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(240 + ROUNDS * (10 if STOP else 3)),
]


class Strikes:
    """The workers and what strikes them; processes that were stopped go on after their time."""

    def __init__(self, start, path):
        self.start, self.path, self.read, self.counts = start, path, 0, Counter()
        path.touch()
        self.workers = [start() for _ in range(WORKERS)]
        self._stopped = []

    def look(self):
        """Count new strikes, continue those whose time has come, and replace workers that are gone."""
        lines = self.path.read_text().splitlines()
        for line in lines[self.read :]:
            point, kind, child, parent = line.split("|")
            self.counts[point, kind] += 1
            if kind == "stop":
                self._stopped.append((time.monotonic() + (STOP or SHORT), int(child), int(parent)))
        self.read = len(lines)
        now = time.monotonic()
        for until, *processes in list(self._stopped):
            if until <= now:
                self._go_on(processes)
        self._stopped = [each for each in self._stopped if each[0] > now]
        self.workers = [worker if worker.process.poll() is None else self.start() for worker in self.workers]

    def end(self):
        """Kill all of them; a process that stays stopped would keep its transaction open for good."""
        for worker in self.workers:
            worker.kill()
        for line in self.path.read_text().splitlines():
            _, kind, child, _ = line.split("|")
            with contextlib.suppress(OSError):
                if kind == "stop" and b"tests.template" in Path(f"/proc/{child}/cmdline").read_bytes():
                    os.kill(int(child), signal.SIGKILL)

    def _go_on(self, processes):
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


def books():
    """How often each was counted, and the jobs with receipts, both at one time."""
    with transaction.atomic():
        counted = Counter(Submission.objects.filter(processed__gt=0).values_list("processed", flat=True))
        return counted, {str(each) for each in Receipt.objects.values_list("pk", flat=True)}


@pytest.mark.parametrize("level", LEVELS)
def test_effects_and_receipts_are_one_whatever_dies(level, worker_process, tmp_path, capsys):
    client, batch, jobs = get_connection("default"), Batch.objects.create(), []
    # All at first: on SQLite the lock of a stopped worker would keep this process from writing, too.
    Submission.objects.bulk_create(Submission(batch=batch) for _ in range(2 * (ROUNDS + AHEAD)))
    pks = list(Submission.objects.order_by("pk").values_list("pk", flat=True))
    env = {"DJANGO_SETTINGS_MODULE": "tests.faulty", "LOG_LEVEL": "INFO", "ISOLATION": level}
    struck = {"STRIKES": str(tmp_path / "strikes"), "STRIKE_RATE": "0.1", "STRIKE_KINDS": KINDS, "POISON": "1e9"}
    struck |= {"RESTART_DELAY": "0.05"} if STOP else {"RESTART_DELAY": "0.05", "UNSEEN": str(UNSEEN), "EVERY": "0.3"}
    strikes = Strikes(lambda: worker_process("default", concurrency=THREADS, env=env | struck), tmp_path / "strikes")
    while strikes.counts.total() < ROUNDS:
        if client.llen("rq:queue:default") < AHEAD // 2:
            jobs += Count.defer_many([(pk,) for pk in pks[len(jobs) : len(jobs) + AHEAD]])
        strikes.look()
        time.sleep(0.05)
    strikes.end()
    time.sleep(0.5)  # children whose parent was killed notice that, and end
    counted, receipts = books()
    assert counted == {1: len(receipts)}

    while True:
        for name in client.zrange("jobs:workers", 0, -1):
            client.zadd("jobs:workers", {name: 1})  # all are gone: the thirty seconds pass
        for job_id in client.zrange("rq:scheduled:default", 0, -1):
            client.zadd("rq:scheduled:default", {job_id: 1})
        for row in JobQuery(state=JobState.DEAD).all(1_000):
            control.retry(row.job)
        assert worker_process("default", burst=True, concurrency=4, env=env).wait(300) == 0
        if not any(client.zcard(f"rq:{place}:default") for place in ("scheduled", "failed", "wip")):
            break

    counted, receipts = books()
    output = "".join(log.read_text() for log in tmp_path.glob("worker-*.log"))
    again = output.count("it has been committed (The receipt of job")
    waited = output.count("it has been committed (") - again
    refused = output.count("refused late result")
    points, kinds = Counter(), Counter()
    for (point, kind), number in strikes.counts.items():
        points[point] += number
        kinds[kind] += number
    with capsys.disabled():
        print(
            f"\n{connection.vendor} {level}: rounds={strikes.counts.total()} {dict(kinds)} {dict(points)}\n"
            f"jobs={len(jobs)} effects={dict(counted)} receipts={len(receipts)} attempts that found a receipt={again}, "
            f"by an error of the database={waited}, late results refused={refused}"
        )
    assert counted == {1: len(jobs)}
    assert receipts == {job.id for job in jobs}
    assert Counter(job.state for job in jobs) == {"finished": len(jobs)}
    assert again + waited or STOP, "no receipt was needed"
    if ROUNDS >= 500:
        assert set(points) == set(STRUCK)
