"""
How soon `job.await_result` returns: `python -m benchmarks.waits [samples]`.

One process commits jobs, one after another, in steps as a worker sends them. In another one coroutines await them, over
one connection. Of each job: milliseconds from when the step is sent until its coroutine goes on. Idle: a step each 5
ms. Under load: as fast as they come, while a worker of 10 threads drains no-op jobs beside them. Then 1,000 and 10,000
coroutines wait at once, and the jobs of all are committed one after another.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.atomic import servers

SAMPLES = 1_000
PAUSE = 0.005  # seconds between two steps on an idle machine
MANY = (1_000, 10_000)
NOOPS = 200_000  # for the worker beside it: more than it can do meanwhile
COLUMNS = ("waits", "p50 ms", "p99 ms", "longest", "all, s", "subscribed", "MB")


def main() -> int:
    if sys.argv[1:2] == ["listen"]:
        return listen()
    samples = int(sys.argv[1]) if sys.argv[1:] else SAMPLES
    with tempfile.TemporaryDirectory(prefix="jiki-waits-") as folder, servers(Path(folder), "sqlite"):
        import django

        django.setup()
        print(f"{'':24}", *(f"{column:>12}" for column in COLUMNS))
        show("idle", samples, pause=PAUSE)
        with draining():
            show("under load", samples)
        for number in MANY:
            show("at once", number)
    return 0


def show(name: str, number: int, pause: float = 0.0) -> None:
    """Let so many coroutines wait, commit their jobs, and print how long each took."""
    from benchmarks.app.commands import NoopKept
    from jobs.broker.connections import get_connection

    client = get_connection("default")
    jobs = NoopKept.defer_many([()] * number, queue="low")
    command = [sys.executable, "-m", "benchmarks.waits", "listen"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdin is not None and listener.stdout is not None
        listener.stdin.write(json.dumps([job.id for job in jobs]) + "\n")
        listener.stdin.flush()
        while (noted := sum(1 for _ in client.scan_iter("jobs:waiters:*", count=1_000))) < number:
            assert listener.poll() is None, f"{noted} of {number} wait, and the process has ended"
            time.sleep(0.05)
        assert all(client.ttl(key) > 0 for key in client.scan_iter("jobs:waiters:*", count=1_000)), "without expiry"
        connections = sum(row["sub"] != "0" for row in client.client_list())
        megabytes = resident(listener.pid)
        began = time.monotonic()
        sent = commit(number, pause)
        woken = json.loads(listener.stdout.readline())
    spent = time.monotonic() - began
    assert not list(client.scan_iter("jobs:waiters:*", count=1_000)), "a note is left"
    times = sorted((woken[job_id] - at) * 1_000 for job_id, at in sent.items())
    p99 = times[int(len(times) * 0.99)]
    cells = (f"{number:,}", f"{statistics.median(times):.2f}", f"{p99:.2f}", f"{times[-1]:.1f}", f"{spent:.1f}")
    print(f"{name:24}", *(f"{cell:>12}" for cell in (*cells, connections, f"{megabytes:.0f}")), flush=True)


def commit(number: int, pause: float) -> dict[str, float]:
    """Claim and commit so many jobs, one a step. Returns when the step of each was sent, by CLOCK_MONOTONIC."""
    from jobs.attempts.outcomes import Finished
    from jobs.broker.connections import get_connection
    from jobs.worker.fetch import Fetch
    from jobs.worker.scoreboard import Board

    get_connection("default").zadd("jobs:workers", {"bench": time.time() + 3_600})
    fetch: Any = Fetch("bench", {"low": None}, threads=1, board=Board(1), blocks=True, release=lambda member: None)
    sent = {}
    fetch._step(claims=True)
    for _ in range(number):
        claim = fetch._ready.popleft()
        fetch.commits.add(claim, Finished(b"7", 500), "bench", 0.0)
        time.sleep(pause)
        sent[claim.job_id] = time.monotonic()
        fetch._step(claims=True)
    return sent


def listen() -> int:
    """Await the jobs whose ids are in the first line of the input; print when each has ended."""
    import django

    django.setup()
    from jobs import MandateJob
    from jobs.broker.connections import get_connection

    woken: dict[str, float] = {}
    client = get_connection("low")

    async def one(job_id: str) -> None:
        job = MandateJob(job_id, connection=client)
        job.origin = "low"
        await job.await_result(600)
        woken[job_id] = time.monotonic()

    async def every(ids: list[str]) -> None:
        await asyncio.gather(*map(one, ids))

    asyncio.run(every(json.loads(sys.stdin.readline())))
    print(json.dumps(woken), flush=True)
    return 0


@contextmanager
def draining() -> Iterator[None]:
    """A worker that runs no-op jobs meanwhile."""
    from benchmarks.app.commands import Noop

    Noop.defer_many([()] * NOOPS)
    command = [sys.executable, "manage.py", "rqworker", "default", "--concurrency", "10"]
    with subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as worker:
        try:
            time.sleep(5)  # it starts
            yield
        finally:
            worker.terminate()


def resident(pid: int) -> float:
    """Megabytes of memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    sys.exit(main())
