"""
What batches and flows cost: `python -m benchmarks.batches [jobs]`.

A server and a worker of 10 threads of their own. `defer_many` of no-op jobs beside a batch of the same with a callback;
a flow of 1,000 steps, ten beside each other, each after all of the ten before; a step after all others, a fan-in; and a
batch whose jobs are cancelled and listed. Of each: seconds to write it, seconds until the worker has done it, jobs a
second for both, and by the server's SLOWLOG the longest call of a script, which depends on what else the machine does,
and how many calls of all took over 5 ms.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from redis import Redis

from benchmarks.atomic import servers
from benchmarks.processes import Child, wait_for

JOBS = 100_000
STEPS, BESIDE = 1_000, 10
PATIENCE = 1_800  # seconds
SHORT = 500  # microseconds: calls that are shorter are not logged
LONG = 5  # milliseconds
COLUMNS = ("write, s", "run, s", "jobs a second", "longest ms", "by", "over 5 ms", "of calls")


def main() -> int:
    jobs = int(sys.argv[1]) if sys.argv[1:] else JOBS
    with tempfile.TemporaryDirectory(prefix="jiki-batches-") as name, servers(Path(name), "sqlite"):
        import django

        django.setup()
        from benchmarks.app.commands import Noop, NoopKept
        from jobs import Batch, Workflow, queues

        bench = Bench(Path(name))
        print(f"{'':28}", *(f"{column:>14}" for column in COLUMNS), flush=True)

        def plain() -> None:
            Noop.defer_many([()] * jobs)

        def batch() -> Any:
            with Batch("batch", on_success=Noop.prepare()) as opened:
                Noop.defer_many([()] * jobs)
            return opened

        def flow() -> Any:
            with Workflow("flow") as opened:
                before: list[Any] = []
                for _ in range(STEPS // BESIDE):
                    before = [opened.add(Noop, after=before) for _ in range(BESIDE)]
            return opened

        def fan_in() -> Any:
            with Workflow("fan-in") as opened:
                opened.add(NoopKept, after=[opened.add(Noop) for _ in range(jobs)])
            return opened

        bench.row("defer_many", jobs, plain)
        bench.row("a batch", jobs, batch)
        bench.row("defer_many, again", jobs, plain)
        bench.row(f"a flow of {STEPS:,} steps", STEPS, flow)
        bench.row("a fan-in", jobs + 1, fan_in)
        queues.pause("default")
        opened = batch()
        bench.only("cancel", jobs, opened.cancel)
        bench.only("count", jobs, lambda: opened.counts)
        bench.only("list the jobs", jobs, lambda: list(opened.jobs()))
    return 0


class Bench:
    """The server of this process, and a row of figures of each part."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.client = folder, Redis.from_url(os.environ["REDIS_URL"])
        self.client.config_set("slowlog-log-slower-than", SHORT)
        self.client.config_set("slowlog-max-len", 100_000)

    def row(self, title: str, jobs: int, write: Callable[[], Any]) -> None:
        """Write jobs, then run them, and print how long both took. A batch must have succeeded."""
        self.client.flushall()
        self.reset()
        begun = time.perf_counter()
        batch = write()
        written = time.perf_counter() - begun
        with self.working() as process:
            begun = time.perf_counter()
            wait_for(lambda: not self.left(), PATIENCE, "all are done", process)
            ran = time.perf_counter() - begun
        if batch is not None and not batch.has_succeeded:
            raise AssertionError(f"{title}: {batch.counts}")
        self.show(title, jobs, written, ran)

    def only(self, title: str, jobs: int, call: Callable[[], Any]) -> None:
        """Make a call, and print how long it took."""
        self.reset()
        begun = time.perf_counter()
        call()
        self.show(title, jobs, time.perf_counter() - begun, 0.0)

    def show(self, title: str, jobs: int, written: float, ran: float) -> None:
        """Print a row."""
        entries: Any = self.client.slowlog_get(100_000)
        slow = [(each["duration"] / 1_000, script_of(each["command"])) for each in entries]
        longest, name = max((each for each in slow if each[1]), default=(0.0, ""))
        over, calls = sum(each[0] > LONG for each in slow if each[1]), self.calls()
        figures = f"{written:14.2f} {ran:14.2f} {jobs / (written + ran):14,.0f} {longest:14.1f} {name:>14}"
        print(f"{title:28}", figures, f"{over:14,} {calls:14,}", flush=True)

    def reset(self) -> None:
        """Begin to count the calls."""
        self.client.slowlog_reset()
        self.client.config_resetstat()

    def calls(self) -> int:
        """The calls of scripts since the reset."""
        of: Any = self.client.info("commandstats")
        return int(of.get("cmdstat_evalsha", {"calls": 0})["calls"])

    def left(self) -> int:
        """The jobs that are not done."""
        with self.client.pipeline() as pipeline:
            pipeline.llen("rq:queue:default")
            pipeline.zcard("rq:wip:default")
            pipeline.zcard("rq:deferred:default")
            pipeline.scard("jobs:releasing")
            return sum(pipeline.execute())

    @contextmanager
    def working(self) -> Iterator[Child]:
        """Run a worker, from when it is there."""
        command = [sys.executable, "manage.py", "rqworker", "default", "--concurrency", "10"]
        with Child(command, env=os.environ, log=self.folder / "worker.log") as process:
            wait_for(lambda: self.client.scard("rq:workers"), PATIENCE, "the worker has started", process, every=0.01)
            yield process


def script_of(command: bytes) -> str:
    """The name of the script that a command of SLOWLOG called; "" for all other commands."""
    words = command.split(maxsplit=2)
    if len(words) < 2 or words[0].upper() != b"EVALSHA":
        return ""
    return names().get(words[1].decode(), "?")


@cache
def names() -> dict[str, str]:
    """The name of each script by its digest."""
    from jobs.broker.connections import _LUA, Script

    files = [each.name for each in _LUA.iterdir() if each.name.endswith(".lua")]
    return {Script(name).sha: name for name in files}


if __name__ == "__main__":
    sys.exit(main())
