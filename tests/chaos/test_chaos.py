"""`make chaos`: a steady load, faults at random, and the books afterwards. Its seed is printed, SEED= repeats it."""

import os
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from jobs.connections import get_connection
from jobs.errors import RedisUnavailableError
from tests.chaos.faults import Faults
from tests.sample.commands.ledger import Record
from tests.sample.models import Run

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

SECONDS = float(os.environ.get("CHAOS_SECONDS", "30"))
QUEUES = ("critical", "default", "low")


class Load:
    """Defers jobs at a steady pace, and knows which were accepted. Where `defer` raised, nobody can know."""

    def __init__(self, chance):
        self.accepted, self.unknown = {}, set()
        self._chance, self._ended = chance, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        number = 0
        while not self._ended.wait(0.01):
            rows = [self._row(number + n) for n in range(self._chance.choice([1, 1, 1, 5]))]
            number += len(rows)
            wait = self._chance.choice([None, None, None, self._chance.uniform(0, 3)])
            try:
                jobs = Record.defer_many(rows, queue=self._chance.choice(QUEUES), wait=wait)
            except RedisUnavailableError:
                self.unknown.update(row["number"] for row in rows)
            else:
                self.accepted.update((row["number"], job) for row, job in zip(rows, jobs, strict=True))

    def _row(self, number):
        seconds = self._chance.choice([0, 0, 0.005, 0.05, 0.2])
        return {"number": number, "seconds": seconds, "fails": number % 20 == 7}

    def end(self):
        self._ended.set()
        self._thread.join()


def test_nothing_is_lost_whatever_breaks(worker_process, valkey, places, capsys):
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
    chance = random.Random(seed)
    faults = Faults(chance, valkey, lambda: worker_process(*QUEUES, concurrency=4, env={"LOG_LEVEL": "ERROR"}), 2)
    load = Load(random.Random(seed))
    struck = Counter()
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        struck[faults.strike()] += 1
        time.sleep(chance.uniform(0, 1.5))
    load.end()
    faults.stop()

    client = get_connection("default")
    while True:
        for name in client.zrange("jobs:workers", 0, -1):
            client.zadd("jobs:workers", {name: 1})  # all have been stopped or killed: the thirty seconds pass
        assert worker_process(*QUEUES, burst=True, concurrency=4).wait(300) == 0
        if not any(client.zcard(f"rq:scheduled:{queue}") for queue in QUEUES):
            break

    report(seed, struck, load, client, places(), capsys)


def report(seed, struck, load, client, found, capsys):
    """The books. Every line is a promise; the last one printed sums them up."""
    runs = Counter(Run.objects.values_list("number", flat=True))
    states = {number: job.state for number, job in load.accepted.items()}
    interrupted = {n for n, job in load.accepted.items() if client.hget(job.key, "interruptions")}
    lost = [n for n, state in states.items() if not runs[n] and state != "dead"]
    twice = {n for n in states if runs[n] > 1}
    counts = Counter(states.values())
    hashes = {key.decode().removeprefix("rq:job:") for key in client.scan_iter("rq:job:*")}
    line = (
        f"accepted={len(states)} finished={counts['finished']} dead={counts['dead']} interrupted={len(interrupted)} "
        f"run_twice={len(twice)} lost={len(lost)} seed={seed}"
    )
    with capsys.disabled():
        print(f"\n{dict(struck)}, {len(load.unknown)} that nobody can know of\n{line}")
    if "CHAOS_REPORT" in os.environ:
        Path(os.environ["CHAOS_REPORT"]).write_text(line)

    assert lost == []
    assert set(counts) <= {"finished", "dead"}
    assert {job_id: where for job_id, where in found.items() if len(where) > 1} == {}, "in two places"
    assert hashes - found.keys() == set(), "records in no place"
    assert twice - interrupted == set(), "ran twice and was never interrupted"
    assert all(states[n] == "dead" for n in states if n % 20 == 7), "failed, and is not dead"
    assert client.zcard("rq:wip:default") == client.zcard("rq:wip:low") == client.zcard("rq:wip:critical") == 0
    outcomes = Counter()
    for key in client.scan_iter("jobs:counts:*"):
        for label, count in client.hgetall(key).items():
            outcomes[label.decode().split("|")[2]] += int(count)
    unknown = len(load.unknown)
    assert counts["finished"] <= outcomes["finished"] <= counts["finished"] + unknown
