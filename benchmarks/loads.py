"""
The loads: what is measured, by which rule. The rules are the same for every system.

A drain: the jobs are enqueued first, then the workers start, and the clock runs from when a tenth is done to when nine
tenths are (or time is up), seen by looking every 10 ms at where the system keeps unfinished jobs. Thus starting up, the
first connection and the last stragglers do not count, and no job does anything for the measurement's sake.

A worker that logs an error fails the measurement: jobs that fail go fast, too.
"""

import contextlib
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import systems
from benchmarks.processes import Child, Client, descendants, wait_for
from benchmarks.servers import DelayedValkey, Valkey
from benchmarks.systems import Places, System
from config.queues import QUEUES

JOBS_PER_SECOND = "jobs/s"
NOOP = "no-op jobs"
MEMORY = "memory of the largest process"
ONE_AT_A_TIME = "enqueue, one at a time"
IN_BULK = "enqueue, in bulk"
IO_JOBS = "50 ms I/O jobs, 50 threads"
ORM_JOBS = "ORM read (PostgreSQL)"
IDLE = "idle latency"
BEHIND = "critical job behind a backlog"
AWAY = "no-op jobs, server 2 ms away, 32 threads"
DUE = "due jobs into their queue"
THREADS = 10  # of each process, or coroutines of it, where a load does not say otherwise
WAITING_THREADS = 50
FAR_THREADS = 32
SECONDS_TO_START = 60  # until a worker must have taken its first job
LOOK_EVERY = 0.01  # seconds
_ERROR = re.compile(r"Traceback|ERROR|CRITICAL")


@dataclass(frozen=True)
class Sizes:
    """How much of each load: what a figure takes, and how far it can be trusted."""

    seconds: float  # of work that a drain has, at the system's pace
    one_at_a_time: int
    bulk: int
    probes: int
    backlog: int
    scheduled: int
    rounds: int


FULL = Sizes(seconds=8, one_at_a_time=20_000, bulk=100_000, probes=300, backlog=1_000_000, scheduled=100_000, rounds=3)
QUICK = Sizes(seconds=1.5, one_at_a_time=1_500, bulk=10_000, probes=25, backlog=20_000, scheduled=10_000, rounds=1)


@dataclass(frozen=True)
class Sample:
    """One figure of one round. More is better for rates, less for all other units."""

    load: str
    unit: str
    value: float
    processes: int | None = None  # None where no worker takes part


@dataclass(frozen=True)
class Bench:
    """What one measurement of one system has to work with."""

    places: Places
    valkey: Valkey
    sizes: Sizes
    directory: Path
    client: Client

    @contextlib.contextmanager
    def working(
        self,
        system: System,
        *,
        processes: int = 1,
        threads: int = THREADS,
        queues: Sequence[str] = ("default",),
        django: bool = False,
        url: str | None = None,
    ) -> Iterator[list[Child]]:
        """The system's workers, while the context is open. `url`: of the server, where that is not the nearest."""
        places = self.places
        if url:
            places = replace(places, env={**places.env, "REDIS_URL": url})
        with contextlib.ExitStack() as stack:
            workers = []
            for number, command in enumerate(system.workers(places, processes, threads, queues)):
                log = self.directory / f"{system.name}-{number}.log"
                log.unlink(missing_ok=True)
                worker = Child(command, env=system.env(places, django=django), log=log)
                workers.append(stack.enter_context(worker))
            yield workers
            for worker in workers:
                if error := _ERROR.search(worker.log.read_text(errors="replace")):
                    raise RuntimeError(f"The worker logged {error[0]}:\n{worker.log_end()}")

    def fill(self, system: System, job: str, rate: float) -> int:
        """Enqueue as many jobs as the system does in a load's time at this rate; returns how many."""
        jobs = max(20, int(rate * self.sizes.seconds))
        bulk = systems.BULK in system.loads
        self.client.call("enqueue_bulk" if bulk else "enqueue_one", system.job(job), jobs)
        return jobs

    def drain_rate(self, system: System, jobs: int, workers: Sequence[Child]) -> float:
        """Jobs a second, by the rule above."""

        def left() -> int:
            return system.unfinished(self.valkey.client)

        wait_for(lambda: left() <= jobs * 0.9, SECONDS_TO_START, "a tenth of the jobs is done", *workers)
        start, first = time.perf_counter(), left()
        end, last = start, first
        while last > jobs * 0.1 and end - start < 2 * self.sizes.seconds:
            time.sleep(LOOK_EVERY)
            end, last = time.perf_counter(), left()
        if last == first:
            raise RuntimeError(f"{jobs} jobs are too few to measure: they are gone between two looks.")
        return (first - last) / (end - start)


def drain(bench: Bench, system: System) -> Iterator[Sample]:
    jobs = bench.fill(system, "noop", system.pace)
    with bench.working(system) as workers:
        yield Sample(NOOP, JOBS_PER_SECOND, bench.drain_rate(system, jobs, workers), 1)
        yield from _memory(workers)


def _memory(workers: Sequence[Child]) -> Iterator[Sample]:
    sizes = [process.resident_mb for worker in workers for process in descendants(worker.process.pid)]
    if sizes:
        # Not their sum: pages shared by parent and children would count several times.
        yield Sample(MEMORY, "MB", max(sizes), 1)


def two_processes(bench: Bench, system: System) -> Iterator[Sample]:
    jobs = bench.fill(system, "noop", 2 * system.pace)
    with bench.working(system, processes=2) as workers:
        yield Sample(NOOP, JOBS_PER_SECOND, bench.drain_rate(system, jobs, workers), 2)


def enqueue(bench: Bench, system: System) -> Iterator[Sample]:
    bench.client.call("enqueue_one", system.job("noop"), 20)  # opens the connection
    seconds = bench.client.call("enqueue_one", system.job("noop"), bench.sizes.one_at_a_time)
    yield Sample(ONE_AT_A_TIME, JOBS_PER_SECOND, bench.sizes.one_at_a_time / seconds)


def bulk(bench: Bench, system: System) -> Iterator[Sample]:
    bench.client.call("enqueue_bulk", system.job("noop"), 20)
    seconds = bench.client.call("enqueue_bulk", system.job("noop"), bench.sizes.bulk)
    yield Sample(IN_BULK, JOBS_PER_SECOND, bench.sizes.bulk / seconds)


def waiting(bench: Bench, system: System) -> Iterator[Sample]:
    jobs = bench.fill(system, "wait_50ms", min(system.pace, 20 * (system.slots or WAITING_THREADS)))
    with bench.working(system, threads=WAITING_THREADS) as workers:
        yield Sample(IO_JOBS, JOBS_PER_SECOND, bench.drain_rate(system, jobs, workers), 1)


def orm(bench: Bench, system: System) -> Iterator[Sample]:
    jobs = bench.fill(system, "read_row", min(system.pace, 1_500))
    with bench.working(system, django=True) as workers:
        yield Sample(ORM_JOBS, JOBS_PER_SECOND, bench.drain_rate(system, jobs, workers), 1)


def latency(bench: Bench, system: System) -> Iterator[Sample]:
    """From the call that enqueues to the job's first line, the worker idle; ours in each of its queues."""
    queues = tuple(QUEUES) if system.module == "ours" else ("default",)
    with bench.working(system, queues=queues):
        bench.client.call("probe", queues[0], 3)  # the worker is up now
        for queue in queues:
            late = bench.client.call("probe", queue, bench.sizes.probes)
            yield from _percentiles(IDLE if queue == "default" else f"{IDLE}, {queue} queue", late)


def critical(bench: Bench, system: System) -> Iterator[Sample]:
    """The same, while all threads work on a long backlog of lower priority."""
    bench.client.call("enqueue_bulk", "wait_1ms", bench.sizes.backlog, "low")
    with bench.working(system, queues=("critical", "low")) as workers:
        jobs = bench.sizes.backlog
        wait_for(lambda: system.waiting(bench.valkey.client, "low") < jobs, SECONDS_TO_START, "it works", *workers)
        late: list[float] = []
        while len(late) < bench.sizes.probes and system.waiting(bench.valkey.client, "low") > bench.sizes.backlog * 0.1:
            late += bench.client.call("probe", "critical", 5)
    yield from _percentiles(BEHIND, late)


def far(bench: Bench, system: System) -> Iterator[Sample]:
    """The worker's server is 2 ms away; jobs are enqueued from nearby."""
    jobs = bench.fill(system, "noop", system.pace / 8)
    with (
        DelayedValkey(bench.valkey, bench.directory, bench.places.env) as proxy,
        bench.working(system, threads=FAR_THREADS, url=proxy.url) as workers,
    ):
        rate = bench.drain_rate(system, jobs, workers)
        yield Sample(AWAY, JOBS_PER_SECOND, rate, 1)


def scheduled(bench: Bench, system: System) -> Iterator[Sample]:
    """From the last look before the first due job moved to its queue until all have; all are due when it starts."""
    jobs = bench.sizes.scheduled
    due = time.time() + jobs / 5_000  # time enough to write them for those who refuse a time that has passed
    bench.client.call("schedule", system.job("noop"), jobs, due)
    time.sleep(max(0, due - time.time()))
    looked = start = time.perf_counter()

    def left() -> int:
        nonlocal looked, start
        start, looked = looked, time.perf_counter()
        return system.scheduled(bench.valkey.client)

    if left() < jobs:
        raise RuntimeError(f"Only {left()} of {jobs} jobs lie in the schedule.")
    with bench.working(system) as workers:
        wait_for(lambda: left() < jobs, SECONDS_TO_START, "the first is in its queue", *workers, every=0.001)
        begun = start
        wait_for(lambda: left() == 0, jobs / 200, "all are in their queues", *workers, every=0.001)
        yield Sample(DUE, "s", time.perf_counter() - begun, 1)


def _percentiles(load: str, late: Sequence[float]) -> Iterator[Sample]:
    ordered = sorted(1_000 * seconds for seconds in late)
    yield Sample(f"{load}, p50", "ms", statistics.median(ordered), 1)
    yield Sample(f"{load}, p99", "ms", ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 1)


#: By the names that `--loads` takes, in the order in which they run and are shown.
LOADS: dict[str, Callable[[Bench, System], Iterator[Sample]]] = {
    systems.DRAIN: drain,
    systems.TWO_PROCESSES: two_processes,
    systems.ENQUEUE: enqueue,
    systems.BULK: bulk,
    systems.WAITING: waiting,
    systems.ORM: orm,
    systems.LATENCY: latency,
    systems.PRIORITY: critical,
    systems.FAR: far,
    systems.SCHEDULED: scheduled,
}
