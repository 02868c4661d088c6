"""
`python -m benchmarks.scripts`: how long one call of each script holds the server, at sizes far above the usual.
`python -m benchmarks.scripts instructions`: the instructions of one call of the scripts that each job needs.

Starts a server of its own. The server's own figures: the median and the longest call by SLOWLOG, which both depend on
what else the machine does; and the mean of its CPU time, with the commands between the calls. Instructions are those of
the whole server by valgrind, which must be installed, and do not depend on the machine's load.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

PAYLOAD = '["jobs.execution.perform",null,["benchmarks.Noop"],{}]'
SHORT = 50  # microseconds: calls of scripts that are shorter are not logged, nor are the commands within


@contextmanager
def own_server(*program: str) -> Iterator[Redis]:
    """Start a server on a socket; make it the one of this process."""
    with tempfile.TemporaryDirectory(prefix="jiki-scripts-") as folder:
        socket = Path(folder, "server.sock")
        words = [*program, "--hz", "1", "--port", "0", "--unixsocket", str(socket), "--dir", folder, "--save", ""]
        process = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL)
        os.environ |= {"REDIS_URL": f"unix://{socket}", "DEBUG": "1", "DJANGO_SETTINGS_MODULE": "config.settings"}
        client = Redis(unix_socket_path=str(socket))
        try:
            while not is_there(client):
                time.sleep(0.05)
            client.config_set("slowlog-log-slower-than", SHORT)
            client.config_set("slowlog-max-len", 100_000)
            yield client
        finally:
            process.terminate()
            process.wait()


def is_there(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False


class Measuring:
    """Fills the server, makes the calls, and prints a row."""

    def __init__(self, client: Redis) -> None:
        self.client = client

    def jobs(self, count: int, status: str, each: Callable[[Any, int], object], **fields: str) -> None:
        """Write jobs `j0`, `j1`, ...; `each(pipeline, number)` puts one into its place."""
        pipeline = self.client.pipeline(transaction=False)
        record = {"created_at": "2026-01-01T00:00:00.000000Z", "enqueued_at": "2026-01-01T00:00:00.000000Z"}
        record |= {"origin": "default", "status": status, "data": PAYLOAD, **fields}
        for number in range(count):
            pipeline.hset(f"rq:job:j{number}", mapping=record)
            each(pipeline, number)
            if number % 5_000 == 4_999:
                pipeline.execute()
        pipeline.execute()

    def row(self, script: str, size: str, call: Callable[[], object]) -> None:
        """Make the calls, and print how long they took in the server."""
        self.client.slowlog_reset()
        begun, used = time.monotonic(), self._cpu()
        call()
        seconds, used = time.monotonic() - begun, self._cpu() - used
        entries: Any = self.client.slowlog_get(100_000)
        took = [entry["duration"] / 1_000 for entry in entries if entry["command"].startswith(b"EVAL")] or [0.0]
        figures = f"{statistics.median(took):.1f} | {max(took):.1f} | {1_000 * used / len(took):.1f}"
        print(f"| {script} | {size} | {len(took):,} | {figures} | {seconds:.1f} |", flush=True)
        self.client.flushall()

    def _cpu(self) -> float:
        """Return the seconds that the server has computed."""
        info: Any = self.client.info("cpu")
        return float(info["used_cpu_user"] + info["used_cpu_sys"])


def main() -> None:
    """Print the table."""
    os.environ |= {"DEBUG": "1", "DJANGO_SETTINGS_MODULE": "config.settings"}
    if sys.argv[1:] == ["instructions"]:
        from jobs.broker.embedded import binary

        valgrind = ("valgrind", "--tool=callgrind", "--callgrind-out-file=instructions", "-q")
        with own_server(*valgrind, binary()) as client:
            count(client)
    else:
        with own_server("redis-server") as client:
            import django

            django.setup()
            measure(Measuring(client))


def count(client: Redis) -> None:
    """Print the instructions of the server for one call of each script that every job needs."""
    import logging

    import django

    django.setup()
    logging.disable(logging.CRITICAL)
    from jobs import queues
    from jobs.attempts.outcomes import Dead, Finished, Requeued, Retried
    from jobs.broker.connections import CLIENT_OPTIONS
    from jobs.queues import NewJob
    from jobs.retries import Progress
    from jobs.worker.fetch import Fetch
    from jobs.worker.scoreboard import Board

    calls = 60
    CLIENT_OPTIONS["socket_timeout"] = 60  # the server runs fifty times slower
    pid = str(client.info("server")["process_id"])  # type: ignore[index]
    control = shutil.which("callgrind_control") or "callgrind_control"

    def row(name: str, call: Callable[[], object]) -> None:
        """Make the calls, and print what one needs."""
        for _ in range(5):
            call()
        subprocess.run([control, "--zero", pid], check=True, capture_output=True)
        before = client.info("commandstats")
        used = time.process_time()
        for _ in range(calls):
            call()
        used = time.process_time() - used
        after: Any = client.info("commandstats")
        answer = subprocess.run([control, "-e", pid], check=True, capture_output=True, text=True)
        instructions = int(re.search(r"Th 1 +([\d,]+)", answer.stdout)[1].replace(",", ""))  # type: ignore[index]
        ran = sum(
            figures["calls"] - before.get(command, {"calls": 0})["calls"]  # type: ignore[union-attr]
            for command, figures in after.items()
            if command not in {"cmdstat_evalsha", "cmdstat_info"}
        )
        print(f"| {name} | {instructions // calls:,} | {ran / calls:.1f} | {used / calls * 1e6:.0f} |", flush=True)

    def new(number: int, *fields: str) -> list[NewJob]:
        return [NewJob(queues.new_id(), "default", PAYLOAD.encode(), fields=fields) for _ in range(number)]

    print("| script | instructions | commands | client, us |")
    print("|---|---:|---:|---:|")
    row("push: one job", lambda: queues.push(new(1)))
    row("push: 100 jobs", lambda: queues.push(new(100)))
    client.flushall()
    outcomes = {
        "forgotten": lambda: Finished(None, 0),
        "forgotten, fairly": lambda: Finished(None, 0),
        "with a limit": lambda: Finished(None, 0),
        "finished": lambda: Finished(b"1", 500),
        "requeued": lambda: Requeued(0, Progress()),
        "retried": lambda: Retried(60, "ValueError", "Traceback", Progress()),
        "dead": lambda: Dead("ValueError", "Traceback"),
    }
    for name, outcome in outcomes.items():
        at_once = 1 if name.endswith("fairly") else 16
        client.zadd("jobs:workers", {"w": time.time() + 3_600})
        limited = ("limits", "c\tbench:concurrency:\t\t1000\twait", "more", "l") if name == "with a limit" else ()
        queues.push(new(at_once * (calls + 10), *limited))
        fetch = Fetch("w", {"default": None}, threads=at_once, board=Board(at_once), blocks=True, release=bool)

        def step(fetch: Fetch = fetch, outcome: Callable[[], Any] = outcome) -> None:
            claims = list(fetch._ready)
            fetch._ready.clear()
            for claim in claims:
                fetch.commits.add(claim, outcome(), "benchmarks.Noop", 0.0001)
            fetch._step(claims=True)

        row(f"step: {at_once} {name}, {at_once} claimed", step)
        client.flushall()


def claim_all(client: Any) -> None:
    """Make steps that want ten jobs, until the queue is empty."""
    from jobs.broker.connections import Script, run_script

    step, now = Script("step.lua"), time.time()
    client.zadd("jobs:workers", {"living": now + 1_000})
    while client.exists("rq:queue:default"):
        words = ["rq:", "living", "2026-01-01T00:00:00.000000Z", repr(now), 10, 0]
        run_script(client, step, ["rq:queue:default"], [*words, "jobs:counts:1", 100, 0, 90, 1_000, 10, 0])


def measure(measuring: Measuring) -> None:
    import logging

    from jobs import control, queues
    from jobs.broker.connections import get_connection
    from jobs.inspection import attempt_counts
    from jobs.job import MandateJob
    from jobs.queues import NewJob
    from jobs.record.prerequisites import Prerequisites
    from jobs.worker import lanes, recovery, release
    from jobs.worker.connection import Wire

    logging.disable(logging.CRITICAL)
    client, row, jobs = measuring.client, measuring.row, measuring.jobs
    connection, wire = get_connection("default"), Wire("default", timeout=60)

    def handles(numbers: range) -> list[MandateJob]:
        return [
            MandateJob.handle(f"j{n}", queue="default", payload=PAYLOAD.encode(), connection=connection)
            for n in numbers
        ]

    def claim(worker: str) -> Callable[[Any, int], object]:
        return lambda pipeline, n: pipeline.zadd("rq:wip:default", {f"j{n}:{worker}.{n}": 9e9 + n})

    def waits(pipeline: Any, n: int) -> None:
        pipeline.sadd(f"jobs:waits:j{n}", "P")
        pipeline.sadd("jobs:dependents:P", f"j{n}")
        pipeline.zadd("rq:deferred:default", {f"j{n}": 1})

    def queued(pipeline: Any, n: int) -> None:
        pipeline.rpush("rq:queue:default", f"j{n}")

    def in_lane(pipeline: Any, n: int) -> None:
        place = f"bench:concurrency:key={n}"
        limits = f"c\tbench:concurrency:key\t{n}\t1\twait"
        pipeline.hset(f"rq:job:j{n}", mapping={"lane": place, "state": "limited", "limits": limits})
        pipeline.rpush(f"jobs:lane:{place}:default", f"j{n}")
        pipeline.hset(f"jobs:lanes:{place}", "default", "")
        pipeline.zadd("rq:deferred:default", {f"j{n}": 1})
        pipeline.zadd("jobs:limited", {place: 1})
        pipeline.zadd("jobs:limits:due", {place: 0})

    def after(many: int) -> NewJob:
        return NewJob(
            "after", "default", PAYLOAD.encode(), prerequisites=Prerequisites(tuple(f"j{n}" for n in range(many)))
        )

    print("| script | size | calls | median ms | longest ms | CPU ms a call | all, s |")
    print("|---|---|---:|---:|---:|---:|---:|")
    jobs(10_000, "started", claim("dead"))
    row("recover", "10,000 claims of a dead worker", lambda: recovery.recover(wire, "default"))
    jobs(10_000, "started", claim("living"))
    client.zadd("jobs:workers", {"living": time.time() + 1_000})
    row("recover", "10,000 claims of living workers", lambda: recovery.recover(wire, "default"))
    jobs(10_000, "started", claim("living"))
    row("change", "cancel 500 of 10,000 running jobs", lambda: control.change_all("cancel", handles(range(500))))
    for first in range(0, 1_000_000, 10_000):
        client.rpush("rq:queue:default", *[f"j{n}" for n in range(first, first + 10_000)])
    jobs(20_000, "queued", lambda pipeline, n: None)
    apart = range(1_000, 3_000, 10)
    row("change", "cancel 200 jobs in a queue of 1,000,000", lambda: control.change_all("cancel", handles(apart)))
    jobs(600_000, "deferred", waits)
    row("release", "600,000 dependents", lambda: release.release(connection, "jobs:dependents:P"))
    hour = int(time.time()) // 3_600 - 1
    labels = {f"default|app.C{n}|finished|{bucket}": 3 for n in range(500) for bucket in (10, 11, 12, 13)}
    for minute in range(hour * 60, hour * 60 + 60):
        client.hset(f"jobs:counts:{minute}", mapping=labels)
    row("sum_up", "an hour of 500 commands", attempt_counts.roll_up)
    jobs(100_000, "queued", queued)
    row("clear", "a queue of 100,000", lambda: list(control.clear("default", datetime.now(UTC))))
    jobs(1_000, "queued", queued)
    rows = [after(1_000)._replace(id=f"after{n}") for n in range(1_000)]
    row("push, link", "1,000 jobs, each after the same 1,000", lambda: queues.push(rows))
    jobs(50_000, "queued", queued)
    row("push, link", "a job after 50,000", lambda: queues.push([after(50_000)]))
    jobs(50_000, "queued", queued)
    (job,) = queues.push([after(50_000)])
    row("change", "cancel a job after 50,000", lambda: control.cancel(job))
    one = "c\tbench:concurrency:\t\t1\twait"
    jobs(100_000, "queued", queued, limits=one, more="l")
    client.sadd("jobs:slots:bench:concurrency:=", "none:living.1")
    row("step", "100,000 jobs into the lane of a full limit", lambda: claim_all(client))
    jobs(10_000, "deferred", in_lane, more="l")
    row("lanes", "10,000 lanes that go on at once", lambda: lanes.look(wire, 0, time.monotonic() + 60))
    plain = [NewJob(f"n{n}", "default", PAYLOAD.encode()) for n in range(100_000)]
    row("push", "100,000 jobs", lambda: queues.push(plain))


if __name__ == "__main__":
    main()
