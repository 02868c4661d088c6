"""
Jobs that await, in one process: `python -m benchmarks.loop [jobs] [at once] [folder of a Python with taskiq]`.

Ours on an event loop, taskiq (with `--max-async-tasks`) and our threads run as many jobs of 50 ms, so many at once;
and ours runs as many jobs that await nothing, which is the engine's own limit. The time is from the first job that
leaves the queue to the last one's end. Ideal: jobs * 50 ms / at once. Then 10,000 jobs await at once: the memory.
"""

import os
import secrets
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.processes import Child, descendants, wait_for
from benchmarks.servers import Valkey

JOBS, AT_ONCE = 20_000, 1_000
MANY = 10_000
PATIENCE = 300  # seconds
QUEUE, TAKEN = "rq:queue:default", "rq:wip:default"


def main() -> int:
    given = sys.argv[1:]
    jobs, at_once = (int(given[0]), int(given[1])) if len(given) > 1 else (JOBS, AT_ONCE)
    peers = Path(given[2]) if len(given) > 2 else None
    with tempfile.TemporaryDirectory(prefix="jiki-loop-") as name:
        folder = Path(name)
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
            "SECRET_KEY": secrets.token_hex(),
            "LOG_LEVEL": "WARNING",
            "REDIS_URL": "redis://replaced-below",
            "DATABASE_URL": f"sqlite:///{folder / 'database'}",
        }
        with Valkey(folder, os.environ) as server:
            os.environ["REDIS_URL"] = server.url
            import django

            django.setup()
            ideal = jobs * 0.05 / at_once
            print(f"{jobs:,} jobs of 50 ms, {at_once:,} at once, one process; ideal {ideal:.2f} s")
            for title, command, options in (
                ("ours, on the loop", "Await50ms", {"concurrency": 2, "async-concurrency": at_once}),
                ("ours, on the loop, no wait", "AwaitNothing", {"concurrency": 2, "async-concurrency": at_once}),
                ("ours, in threads", "Wait50ms", {"concurrency": at_once}),
            ):
                show(title, jobs, ideal, ours(server, folder, command, jobs, options))
            if peers is not None:
                show("taskiq", jobs, ideal, taskiq(server, folder, peers, jobs, at_once))
            print(f"{MANY:,} jobs that await: {memory(server, folder):.0f} MB more than an idle worker")
    return 0


def show(title: str, jobs: int, ideal: float, found: tuple[float, float]) -> None:
    seconds, cpu = found
    print(f"{title:28} {seconds:6.2f} s {jobs / seconds:8,.0f} a second, {ideal / seconds:5.2f} of the ideal", end="")
    print(f", {cpu / jobs * 1e6:4.0f} us of a processor a job", flush=True)


def worker(folder: Path, options: Mapping[str, int]) -> Child:
    words = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, "manage.py", "rqworker", "default", *words]
    return Child(command, env=os.environ, log=folder / "worker.log")


def ours(server: Valkey, folder: Path, command: str, jobs: int, options: Mapping[str, int]) -> tuple[float, float]:
    from benchmarks.app import commands
    from jobs import queues

    server.client.flushdb()
    kind = getattr(commands, command)
    queues.pause("default")
    with worker(folder, options) as process:
        wait_for(lambda: server.client.scard("rq:workers"), PATIENCE, "the worker has started", process)
        kind.defer_many([()] * jobs)
        before = cpu_of(process)
        queues.resume("default")
        wait_for(lambda: server.client.llen(QUEUE) < jobs, PATIENCE, "it begins", process, every=0.002)
        begun = time.perf_counter()
        wait_for(lambda: not server.client.exists(QUEUE, TAKEN), PATIENCE, "all are done", process, every=0.01)
        return time.perf_counter() - begun, cpu_of(process) - before


def taskiq(server: Valkey, folder: Path, peers: Path, jobs: int, at_once: int) -> tuple[float, float]:
    server.client.flushdb()
    env = {**os.environ, "PYTHONPATH": "."}
    del env["DJANGO_SETTINGS_MODULE"]
    program = f"import sys; from benchmarks.clients import taskiq; {ENQUEUE}"
    with Child([str(peers / "python"), "-c", program, str(jobs)], env=env, log=folder / "client.log") as client:
        wait_for(client.ended, PATIENCE, "its jobs are enqueued")
    assert server.client.llen("taskiq") == jobs, client.log_end()
    command = [str(peers / "taskiq"), "worker", "benchmarks.clients.taskiq:broker", "--log-level", "WARNING"]
    command += ["--max-async-tasks", str(at_once), "--max-prefetch", str(at_once), "--workers", "1"]
    with Child(command, env=env, log=folder / "taskiq.log") as process:
        wait_for(lambda: server.client.llen("taskiq") < jobs, PATIENCE, "it begins", process, every=0.002)
        begun, before = time.perf_counter(), cpu_of(process)
        wait_for(lambda: not server.client.llen("taskiq"), PATIENCE, "all are taken", process, every=0.002)
        return time.perf_counter() - begun + 0.05, cpu_of(process) - before  # the last ones take that long


ENQUEUE = "taskiq.enqueue_one('wait_50ms', int(sys.argv[1]))"


def memory(server: Valkey, folder: Path) -> float:
    from benchmarks.app import commands

    server.client.flushdb()
    with worker(folder, {"concurrency": 2, "async-concurrency": MANY}) as process:
        wait_for(lambda: server.client.scard("rq:workers"), PATIENCE, "the worker has started", process)
        time.sleep(2)
        before = megabytes(process)
        commands.AwaitLong.defer_many([()] * MANY)
        wait_for(lambda: not server.client.exists(QUEUE), PATIENCE, "all have begun", process)
        time.sleep(2)
        return megabytes(process) - before


def cpu_of(process: Child) -> float:
    return sum(each.cpu_seconds for each in descendants(process.process.pid))


def megabytes(process: Child) -> float:
    return sum(each.private_mb for each in descendants(process.process.pid))


if __name__ == "__main__":
    sys.exit(main())
