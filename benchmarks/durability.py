"""
What a crash of the server loses, and what it costs to lose less: `python -m benchmarks.durability`.

One thread defers no-op jobs to a primary, which is killed (SIGKILL) after some seconds. What was accepted, that is, for
which `defer` returned, is looked for in what is left: the primary's own files, or its replica. Power is not cut, so
what the system had in its cache is not lost here.
"""

import contextlib
import os
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 3.0  # of enqueueing before the crash
ROUNDS = 5
CUT = 3.0  # seconds that the replica is cut off before the crash, where it is

os.environ |= {
    "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
    "SECRET_KEY": secrets.token_hex(),
    "DATABASE_URL": "sqlite://:memory:",
    "REDIS_URL": "redis://replaced-below",
}


@dataclass(frozen=True)
class Setup:
    """One way to run the server, and to enqueue."""

    name: str
    lines: tuple[str, ...] = ("appendonly yes", "appendfsync everysec")
    replica: float | None = None  # milliseconds away, there and back; None: there is none
    is_cut: bool = False  # whether the network between them fails before the crash
    waits: bool = False  # whether each job is confirmed by the replica


ALWAYS = ("appendonly yes", "appendfsync always")
MIN_REPLICAS = ("appendonly yes", "appendfsync everysec", "min-replicas-to-write 1", "min-replicas-max-lag 1")

SETUPS = [
    Setup("nothing on disk", ("appendonly no",)),
    Setup("appendfsync everysec"),
    Setup("appendfsync always", ALWAYS),
    Setup("replica beside it", replica=0),
    Setup("replica 10 ms away", replica=10),
    Setup("replica 10 ms away, WAIT 1", replica=10, waits=True),
    Setup("replica beside it, WAIT 1", replica=0, waits=True),
    Setup("cut off from its replica for 3 s", replica=1, is_cut=True),
    Setup("the same, min-replicas-to-write 1, max-lag 1", MIN_REPLICAS, replica=1, is_cut=True),
    Setup("the same, WAIT 1", replica=1, is_cut=True, waits=True),
]


def main() -> int:
    import django

    django.setup()
    only = " ".join(sys.argv[1:])
    chosen = [setup for setup in SETUPS if only in setup.name]
    # In turns, so that what disturbs the machine disturbs all.
    rounds = [[crash(setup) for setup in chosen] for _ in range(ROUNDS)]
    print(f"{'':46} {'accepted':>9} {'lost':>8} {'ms a job':>10}")
    for setup, found in zip(chosen, zip(*rounds, strict=True), strict=True):
        accepted, lost, times = sum(each[0] for each in found), sum(each[1] for each in found), [e[2] for e in found]
        print(f"{setup.name:46} {accepted:9,} {lost:8,} {sorted(times)[ROUNDS // 2]:10.2f}")
    return 0


def crash(setup: Setup) -> tuple[int, int, float]:
    """Jobs accepted, jobs lost, and the median of the milliseconds that one took before anything went wrong."""
    from django.conf import settings

    from config.queues import rq_queues
    from tests.jobs.worker.servers import Server

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jiki-durability-")))
        primary = stack.enter_context(Server(folder / "primary", *setup.lines, "repl-diskless-sync-delay 0"))
        replica = network = None
        if setup.replica is not None:
            port = primary.port
            if setup.replica:
                port, network = stack.enter_context(delayed(primary.port, setup.replica))
            replica = stack.enter_context(Server(folder / "replica", f"replicaof 127.0.0.1 {port}"))
            until(lambda: replica.client().info("replication")["master_link_status"] == "up")
            until(lambda: primary.client().info("replication")["slave0"]["lag"] <= 1)
        settings.RQ_QUEUES = rq_queues(primary.url)
        accepted, milliseconds = enqueue_until_it_fails(setup, primary, network)
        left = replica or primary
        if replica:
            replica.client().replicaof("no", "one")
        else:
            primary.start()
        found = {job_id.decode() for job_id in left.client().lrange("rq:queue:default", 0, -1)}
        return len(accepted), len(set(accepted) - found), milliseconds


def enqueue_until_it_fails(setup: Setup, primary: Any, network: Any) -> tuple[list[str], float]:
    from benchmarks.app.commands import Noop
    from jobs.broker.connections import get_connection

    accepted: list[str] = []
    times: list[float] = []
    ended = threading.Event()

    def load() -> None:
        client = get_connection("default")
        while not ended.is_set():
            begun = time.perf_counter()
            with contextlib.suppress(Exception):  # refused, or the server is gone
                job = Noop.defer()
                if not setup.waits or is_replicated(client):
                    accepted.append(job.id)
                    times.append(time.perf_counter() - begun)

    thread = threading.Thread(target=load)
    thread.start()
    time.sleep(SECONDS)
    milliseconds = statistics.median(times) * 1_000
    if setup.is_cut:
        network.send_signal(signal.SIGSTOP)
        time.sleep(CUT)
        network.kill()
    primary.kill()
    ended.set()
    thread.join()
    return accepted, milliseconds


def is_replicated(client: Any, milliseconds: int = 500) -> bool:
    """As docs/production.md has it."""
    with client.pipeline(transaction=False) as pipeline:
        pipeline.set("jobs:confirmed", "1")
        pipeline.wait(1, milliseconds)
        return bool(pipeline.execute()[1])


@contextlib.contextmanager
def delayed(port: int, milliseconds: float) -> "Iterator[tuple[int, subprocess.Popen[bytes]]]":
    """A port through which the server is so far away, there and back; and the process that sees to it."""
    from benchmarks.servers import free_port, listens

    own = free_port()
    code = f"from benchmarks import proxy; proxy.DELAY = {milliseconds / 2_000}; proxy.serve({own}, {port})"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    until(lambda: listens(own))
    try:
        yield own, process
    finally:
        process.kill()
        process.wait()


def until(so: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(KeyError):
            if so():
                return
        if time.monotonic() > deadline:
            raise TimeoutError("The servers did not come up.")
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
