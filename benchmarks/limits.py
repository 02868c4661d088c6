"""
What limits cost, and whether they hold: `python -m benchmarks.limits [part ...] [--small]`.

Each part has an empty server of its own, and real workers. `cost`: a no-op command with one limit beside one without.
`lanes`: jobs of 10,000 keys, one at a time of each, beside jobs without a limit. `beside`: plain jobs beside a lane of
1,000,000, without it, and beside as many jobs in the list of another queue. `rate`: Rate(100, per=1) for 30 s, counted
by the bodies. `turns`: tenants that share a queue. `scripts`: the longest call of a script at a lane of 1,000,000.
`rivals`: 10,000 jobs of 100 keys, one at a time of each, with a worker that is killed in the middle, beside RQ's own
limits; the bodies say when they are entered and left.

Rates are compared in interleaved pairs: the median of all ratios with the lowest and the highest; over 1, the first is
faster, or takes less.
"""

import os
import secrets
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import work
from benchmarks.atomic import ratio
from benchmarks.processes import Child, cpu_seconds, descendants, wait_for
from benchmarks.servers import Valkey

PATIENCE = 600  # seconds
HOLDER = "holder"  # a worker that owns a slot and does not run


@dataclass(frozen=True)
class Sizes:
    jobs: int = 20_000  # of each half of a pair
    pairs: int = 5
    keys: int = 10_000
    lane: int = 1_000_000
    seconds: int = 30
    flood: int = 100_000
    rivals: int = 10_000
    rivals_patience: int = 300  # seconds


SMALL = Sizes(jobs=4_000, pairs=3, keys=2_000, lane=50_000, seconds=8, flood=4_000, rivals=600, rivals_patience=60)


class Bench:
    """The server, and what is done with it."""

    def __init__(self, folder: Path, server: Valkey, sizes: Sizes) -> None:
        self.folder, self.server, self.client, self.sizes = folder, server, server.client, sizes

    @contextmanager
    def working(self, threads: int = 10) -> Iterator[Child]:
        command = [sys.executable, "manage.py", "rqworker", "default", "--concurrency", str(threads)]
        known = self.client.scard("rq:workers")
        with Child(command, env=os.environ, log=self.folder / "worker.log") as process:
            wait_for(lambda: self.client.scard("rq:workers") > known, PATIENCE, "the worker has started", process)
            yield process

    def left(self) -> int:
        """The jobs that are not done, wherever they wait."""
        with self.client.pipeline() as pipeline:
            pipeline.llen("rq:queue:default")
            pipeline.zcard("rq:wip:default")
            pipeline.zcard("rq:deferred:default")
            return sum(pipeline.execute())

    def use(self) -> None:
        """Make the server that of this process, and of workers that start from now on."""
        from django.conf import settings

        from config.queues import rq_queues

        os.environ["REDIS_URL"] = self.server.url
        settings.RQ_QUEUES = rq_queues(self.server.url)

    def drain(self, command: Any, row: Callable[[int], tuple[Any, ...]] = lambda at: ()) -> tuple[float, float]:
        """
        Enqueue jobs beside those that wait in lanes, and run them. Returns jobs a second, and microseconds of
        processors a job.
        """
        from jobs import queues

        self.use()
        waiting, jobs = self.left(), self.sizes.jobs
        queues.pause("default")
        with self.working() as process:
            command.defer_many([row(at) for at in range(jobs)])
            time.sleep(1.5)  # every child knows of the pause, and has none of its own start to do
            queues.resume("default")
            wait_for(lambda: self.left() < waiting + jobs, PATIENCE, "it begins", process, every=0.002)
            begun, used = time.perf_counter(), cpu_seconds(process, self.server)
            wait_for(lambda: self.left() <= waiting, PATIENCE, "all are done", process)
            seconds = time.perf_counter() - begun
            return jobs / seconds, (cpu_seconds(process, self.server) - used) / jobs * 1e6

    def pairs(
        self, title: str, ours: Callable[[], tuple[float, float]], other: Callable[[], tuple[float, float]]
    ) -> None:
        """Print both medians and the ratio, of rates and of processor time."""
        found = [(*ours(), *other()) for _ in range(self.sizes.pairs)]
        rate, cpu, their_rate, their_cpu = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{title}: {rate:,.0f} and {their_rate:,.0f} jobs a second", end="")
        print(f", ratio {ratio([each[0] / each[2] for each in found])}; {cpu:.0f} and {their_cpu:.0f} us", end="")
        print(f" of processors a job, ratio {ratio([each[3] / each[1] for each in found])}", flush=True)

    def hold(self) -> None:
        """Take the one slot of NoopHeld for good."""
        self.client.zadd("jobs:workers", {HOLDER: time.time() + 86_400})
        self.client.sadd(f"jobs:slots:{place()}", f"none:{HOLDER}.1")

    def fill_lane(self) -> None:
        """Let so many jobs wait for that slot."""
        from benchmarks.app.commands import NoopHeld

        self.hold()
        NoopHeld.defer_many([()] * self.sizes.lane)
        wait_for(lambda: not self.client.exists("rq:queue:default"), PATIENCE, "all wait in the lane")


def place() -> str:
    """The place that all jobs of NoopHeld need."""
    from benchmarks.app.commands import NoopHeld
    from jobs.limits import policy
    from jobs.record import registry

    return f"{policy.ids(NoopHeld, registry.name_of(NoopHeld))[0]}="


def cost(bench: Bench) -> None:
    from benchmarks.app.commands import Noop, NoopLimited

    bench.pairs("one limit : none (target 0.8)", lambda: bench.drain(NoopLimited), lambda: bench.drain(Noop))


def lanes(bench: Bench) -> None:
    from benchmarks.app.commands import Noop, NoopOfKey

    many = bench.sizes.keys
    keyed = lambda: bench.drain(NoopOfKey, lambda at: (at % many,))  # noqa: E731
    bench.pairs(f"{many:,} keys : no limit", keyed, lambda: bench.drain(Noop))
    print(f"keys of lanes left at the end: {len(list(bench.client.scan_iter('jobs:lane*')))}", flush=True)


def beside(bench: Bench) -> None:
    from benchmarks.app.commands import Noop

    folder = bench.folder / "other"
    folder.mkdir()
    with bench.working():
        bench.fill_lane()
    with Valkey(folder, os.environ) as server:
        other = Bench(folder, server, bench.sizes)
        title = f"beside a lane of {bench.sizes.lane:,}"
        bench.pairs(f"{title} : without (target 0.95)", lambda: bench.drain(Noop), lambda: other.drain(Noop))
        other.use()
        Noop.defer_many([()] * bench.sizes.lane, queue="low")
        bench.pairs(f"{title} : beside as many in a list", lambda: bench.drain(Noop), lambda: other.drain(Noop))


def rate(bench: Bench) -> None:
    from benchmarks.app.commands import Begin, BeginEvenly

    seconds = bench.sizes.seconds
    for title, command, burst in (("Rate(100, per=1)", Begin, 100), ("the same, burst=1", BeginEvenly, 1)):
        bench.client.flushall()
        with bench.working() as process:
            command.defer_many([()] * (100 * seconds + 500))
            wait_for(lambda: bench.client.llen(work.BEGUN) >= 1, PATIENCE, "the first has started", process)
            time.sleep(seconds + 1)
        times = sorted(map(float, bench.client.lrange(work.BEGUN, 0, -1)))[burst - 1 :]  # after the burst
        counts = Counter(int(at - times[0]) for at in times)
        found = [counts[second] for second in range(seconds)]
        print(f"{title} for {seconds} s: {min(found)} to {max(found)} starts a second", end="")
        print(f" (target 95 to 105), mean {statistics.mean(found):.1f}", flush=True)


def turns(bench: Bench) -> None:
    from benchmarks.app.commands import TakeTurns
    from jobs import Mandate

    if not hasattr(Mandate, "share"):
        print("turns: this release has no `share`", flush=True)
        return
    bench.client.flushall()
    with bench.working(threads=1) as process:
        TakeTurns.defer_many([(1,)] * bench.sizes.flood)
        before = bench.client.llen(work.TURNS)
        TakeTurns.defer(2)
        wait_for(lambda: b"2" in bench.client.lrange(work.TURNS, before, -1), PATIENCE, "the other ran", process)
        others = bench.client.lrange(work.TURNS, before, -1).index(b"2")
    print(f"beside a flood of {bench.sizes.flood:,}, a tenant's only job began after {others} others", flush=True)
    bench.client.flushall()
    from jobs import queues

    queues.pause("default")
    for tenant in (1, 2, 5):
        TakeTurns.defer_many([(tenant,)] * bench.sizes.flood)
    with bench.working(threads=1) as process:
        queues.resume("default")
        number = bench.sizes.flood
        wait_for(lambda: bench.client.llen(work.TURNS) >= number, PATIENCE, "so many have run", process)
    found = Counter(map(int, bench.client.lrange(work.TURNS, 0, number - 1)))
    off = {tenant: found[tenant] / number / (tenant / 8) - 1 for tenant in (1, 2, 5)}
    shown = ", ".join(f"weight {tenant}: {found[tenant] / number:.3f} ({off[tenant]:+.1%})" for tenant in off)
    print(f"turns of {number:,} jobs: {shown} (target 5 %)", flush=True)


def scripts(bench: Bench) -> None:
    """What a worker and a person do at the lane: refuse, wake, claim, commit, cancel, move, look again."""
    from benchmarks.app.commands import NoopHeld
    from jobs import control

    client = bench.client
    client.flushall()
    client.config_set("slowlog-max-len", 100_000)
    with bench.working() as process:
        client.config_set("slowlog-log-slower-than", 100)
        client.slowlog_reset()
        bench.fill_lane()
        shown(client, f"moving {bench.sizes.lane:,} jobs into the lane")
        client.slowlog_reset()
        lane = f"jobs:lane:{place()}:default"
        for at in (0, client.llen(lane) // 2, -1):
            control.cancel(job_of(client, client.lindex(lane, at)))
            control.delete(job_of(client, client.lindex(lane, at)))
        shown(client, "cancel and delete at head, middle and tail")
        client.slowlog_reset()
        done = bench.left() - 2_000
        client.srem(f"jobs:slots:{place()}", f"none:{HOLDER}.1")
        wait_for(lambda: bench.left() <= done, 60, "2,000 of the lane have run", process)
        NoopHeld.defer()
        shown(client, "2,000 of the lane run, one after the other")


def job_of(client: Any, job_id: bytes) -> Any:
    from jobs import MandateJob
    from jobs.broker.connections import get_connection

    job = MandateJob(job_id.decode(), connection=get_connection("default"))
    job.origin = "default"
    return job


def shown(client: Any, what: str) -> None:
    """Print how long the calls of each script held the server."""
    from jobs.broker.connections import Script

    names = {Script(each).sha.encode(): each for each in ("push.lua", "step.lua", "change.lua", "lanes.lua")}
    took: dict[str, list[float]] = {}
    for entry in client.slowlog_get(100_000):
        words = entry["command"].split()
        if words[0].startswith(b"EVAL"):  # with its text, the first time
            name = names.get(words[1], "others") if words[0] == b"EVALSHA" else "compiling"
            took.setdefault(name, []).append(entry["duration"] / 1_000)
    print(f"{what}, ms of calls over 0.1 ms (target 5 at most):", flush=True)
    for name, found in sorted(took.items()):
        median, longest = statistics.median(found), max(found)
        print(f"    {name:12} {len(found):7,} calls, median {median:6.1f}, longest {longest:6.1f}", flush=True)


# --- beside RQ's own limits ------------------------------------------------------------------


def rivals(bench: Bench) -> None:
    from rq import Queue
    from rq.rate_limit import RateLimit

    from benchmarks.app.commands import Occupy

    jobs, url = bench.sizes.rivals, os.environ["REDIS_URL"]
    rows = [(number % 100, number) for number in range(jobs)]

    def by_rq() -> None:
        queue = Queue("default", connection=bench.client)
        for key, number in rows:
            queue.enqueue(work.occupy, key, number, rate_limit=RateLimit(str(key), 1), result_ttl=0)

    ours = [sys.executable, "manage.py", "rqworker", "default", "--concurrency", "1"]
    theirs = [str(Path(sys.executable).with_name("rq")), "worker", "default", "--url", url]
    for title, command, enqueue in (("ours", ours, lambda: Occupy.defer_many(rows)), ("RQ", theirs, by_rq)):
        bench.client.flushall()
        bench.client.config_resetstat()
        begun = time.perf_counter()
        enqueue()
        filled = time.perf_counter() - begun
        print(f"{title}: enqueued in {filled:.1f} s; {run_four(bench, command, jobs)}", flush=True)


def run_four(bench: Bench, command: Sequence[str], jobs: int) -> str:
    """Run four workers of one job each, kill the first in the middle, and say what the bodies have said."""
    env = os.environ | {"PYTHONPATH": os.getcwd()}
    workers = [Child(list(command), env=env, log=bench.folder / f"rival-{number}.log") for number in range(4)]
    try:
        begun = time.perf_counter()
        count = lambda: bench.client.llen(work.BODIES)  # noqa: E731
        wait_for(lambda: count() >= jobs, PATIENCE, "half of the jobs have run", every=0.05)
        dead = {process.pid for process in descendants(workers[0].process.pid)}
        workers[0].stop()
        killed = time.time()
        deadline = time.perf_counter() + bench.sizes.rivals_patience
        while len(finished(bench)) < jobs and time.perf_counter() < deadline:
            time.sleep(0.5)
        seconds = time.perf_counter() - begun
        stats: Any = bench.client.info("commandstats")
        calls = sum(each["calls"] for each in stats.values()) - count()
    finally:
        for worker in workers:
            worker.stop()
    done = len(finished(bench))
    ends = f"{done:,} of {jobs:,} jobs done after {seconds:.1f} s"
    return f"{ends}, {most_at_once(bench, killed, dead)} of a key at once at most, {calls / jobs:.0f} commands a job"


def events(bench: Bench) -> list[list[str]]:
    """What the bodies have said: time, in or out, key, number, process."""
    return sorted(
        (each.decode().split() for each in bench.client.lrange(work.BODIES, 0, -1)), key=lambda e: float(e[0])
    )


def finished(bench: Bench) -> set[str]:
    return {each[3] for each in events(bench) if each[1] == "out"}


def most_at_once(bench: Bench, killed: float, dead: set[int]) -> int:
    """How many bodies of one key were at work at once at most. Those of the killed processes ended with them."""
    inside: dict[str, dict[tuple[str, str], bool]] = {}
    most, is_over = 0, False
    for at, what, key, number, pid in events(bench):
        if float(at) > killed and not is_over:
            is_over = True
            for bodies in inside.values():
                for body in [each for each in bodies if int(each[1]) in dead]:
                    del bodies[body]
        bodies = inside.setdefault(key, {})
        if what == "in":
            bodies[number, pid] = True
        else:
            bodies.pop((number, pid), None)
        most = max(most, len(bodies))
    return most


PARTS = {part.__name__: part for part in (cost, lanes, beside, rate, turns, scripts, rivals)}


def main() -> int:
    small = "--small" in sys.argv[1:]
    chosen = [word for word in sys.argv[1:] if word != "--small"] or list(PARTS)
    with tempfile.TemporaryDirectory(prefix="jiki-limits-") as name:
        folder = Path(name)
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
            "SECRET_KEY": secrets.token_hex(),
            "LOG_LEVEL": "WARNING",
            "REDIS_URL": "redis://replaced-below",
            "DATABASE_URL": f"sqlite:///{folder / 'database'}",
        }
        import django

        django.setup()
        from jobs.broker.connections import CLIENT_OPTIONS

        CLIENT_OPTIONS["socket_timeout"] = PATIENCE  # a server that is busy with a lane is measured, not left
        for part in chosen:
            with Valkey(folder, os.environ) as server:
                bench = Bench(folder, server, SMALL if small else Sizes())
                bench.use()
                PARTS[part](bench)
    return 0


if __name__ == "__main__":
    sys.exit(main())
