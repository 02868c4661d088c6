"""The loads: what is measured. `benchmarks.bench` has the rule for those that drain a queue."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

from benchmarks import systems
from benchmarks.bench import JOBS_PER_SECOND, SECONDS_TO_START, Bench, Sample, memory, memory_of_newest
from benchmarks.processes import wait_for
from benchmarks.servers import DelayedValkey
from benchmarks.systems import System
from config.queues import QUEUES

NOOP = "no-op jobs"
MEMORY = "memory of the worker"
ONE_AT_A_TIME = "enqueue, one at a time"
IN_BULK = "enqueue, in bulk"
IO_JOBS = "50 ms I/O jobs, 50 threads"
ORM_JOBS = "ORM read (PostgreSQL)"
IDLE = "idle latency"
BEHIND = "critical job behind a backlog of 1 ms jobs"
AWAY = "no-op jobs, server 2 ms away, 32 threads"
DUE = "due jobs into their queue"
MIXED = "mixed jobs, drained"
MIXED_RATE = 1_000  # jobs a second, for which the mixture keeps two or three of ten threads busy
STEADY = f"mixed jobs, {MIXED_RATE:,} a second, enqueued to started"
WAITING_THREADS = 50
FAR_THREADS = 32
BURSTS = 3  # seconds that a system has to move due jobs, at least: some move a few once a second
LONGEST_BACKLOG = 250  # seconds of no-op jobs at the system's pace: what takes minutes to write is not waited for
LONGEST_QUEUE = 100_000  # jobs; a long run is fed so that the queue never holds more


def drain(bench: Bench, system: System) -> Iterator[Sample]:
    jobs = bench.fill(system, "noop", system.pace)
    with bench.working(system) as workers:
        yield from bench.drain(NOOP, system, jobs, workers)
        if size := memory(workers):
            yield Sample(MEMORY, "MB", size, 1)


def two_processes(bench: Bench, system: System) -> Iterator[Sample]:
    jobs = bench.fill(system, "noop", 1.6 * system.pace)
    with bench.working(system, processes=2) as workers:
        yield from bench.drain(NOOP, system, jobs, workers, processes=2)


def enqueue(bench: Bench, system: System) -> Iterator[Sample]:
    yield from bench.calls(ONE_AT_A_TIME, "enqueue_one", system.job("noop"), bench.sizes.one_at_a_time)


def bulk(bench: Bench, system: System) -> Iterator[Sample]:
    yield from bench.calls(IN_BULK, "enqueue_bulk", system.job("noop"), bench.sizes.bulk)


def waiting(bench: Bench, system: System) -> Iterator[Sample]:
    jobs = bench.fill(system, "wait_50ms", min(system.pace, 20 * (system.slots or WAITING_THREADS)))
    with bench.working(system, threads=WAITING_THREADS) as workers:
        yield from bench.drain(IO_JOBS, system, jobs, workers)


def orm(bench: Bench, system: System) -> Iterator[Sample]:
    jobs = bench.fill(system, "read_row", min(system.pace, 1_500))
    with bench.working(system, django=True) as workers:
        yield from bench.drain(ORM_JOBS, system, jobs, workers)


def latency(bench: Bench, system: System) -> Iterator[Sample]:
    """From the call that enqueues to the job's first line, the worker idle."""
    with bench.working(system):
        bench.client.call("probe", "default", 3)  # the worker is up now
        yield from _percentiles(IDLE, bench.client.call("probe", "default", bench.sizes.probes))


def each_queue(bench: Bench, system: System) -> Iterator[Sample]:
    """The same in each of our queues."""
    with bench.working(system):
        bench.client.call("probe", "default", 3)
        for queue in QUEUES:
            late = bench.client.call("probe", queue, bench.sizes.probes)
            yield from _percentiles(f"{IDLE}, {queue} queue", late)


def mixed(bench: Bench, system: System) -> Iterator[Sample]:
    """90 % no-op jobs, 9 % of 5 ms, 1 % of 200 ms: drained; and at a steady rate, from enqueued to started."""
    jobs = int(bench.sizes.seconds * min(system.pace, 3 * MIXED_RATE))
    bench.client.call("steady", jobs, 0)
    with bench.working(system) as workers:
        yield from bench.drain(MIXED, system, jobs, workers)
    bench.valkey.client.flushall()
    with bench.working(system):
        bench.client.call("probe", "default", 3)
        yield from _percentiles(STEADY, bench.client.call("steady", bench.sizes.mixed, MIXED_RATE))


def critical(bench: Bench, system: System) -> Iterator[Sample]:
    """
    The same, while all threads work on a long backlog of lower priority.

    Its jobs sleep 1 ms, so a thread is free within that time, and the wait for it is in the figures.
    """
    jobs = min(bench.sizes.backlog, system.pace * LONGEST_BACKLOG)
    bench.client.call("enqueue_bulk", "wait_1ms", jobs, "low")
    with bench.working(system, queues=("critical", "low")) as workers:
        wait_for(lambda: system.waiting(bench.valkey.client, "low") < jobs, SECONDS_TO_START, "it works", *workers)
        late: list[float] = []
        while len(late) < bench.sizes.probes:
            late += bench.client.call("probe", "critical", 5)
            if system.waiting(bench.valkey.client, "low") < jobs * 0.1:
                raise RuntimeError(f"The backlog was nearly gone after {len(late)} critical jobs.")
    yield from _percentiles(BEHIND, late)


def far(bench: Bench, system: System) -> Iterator[Sample]:
    """The worker's server is 2 ms away; jobs are enqueued from nearby."""
    jobs = bench.fill(system, "noop", system.pace / 8)
    with (
        DelayedValkey(bench.valkey, bench.directory, bench.places.env) as proxy,
        bench.working(system, threads=FAR_THREADS, url=proxy.url) as workers,
    ):
        yield from bench.drain(AWAY, system, jobs, workers)


def scheduled(bench: Bench, system: System) -> Iterator[Sample]:
    """
    All jobs are due when the worker starts. From the last look before the first one moved to its queue until all have,
    or time is up.
    """
    jobs, redis, client = bench.sizes.scheduled, bench.valkey.client, bench.client
    # A job whose time has come when it is written would not be scheduled: try a few to see how long all of them take.
    trial = jobs // 20
    seconds = client.call("schedule", system.job("noop"), trial, time.time() + 3_600)
    redis.flushall()
    due = time.time() + 1 + 1.5 * seconds * jobs / trial
    client.call("schedule", system.job("noop"), jobs, due)
    time.sleep(max(0, due - time.time()))
    if (lie := system.scheduled(redis)) < jobs:
        raise RuntimeError(f"Only {lie} of {jobs} jobs lie in the schedule.")
    limit = max(BURSTS, 2 * bench.sizes.seconds)
    begun = math.inf

    def moving() -> bool:
        nonlocal begun
        now = time.perf_counter()
        if system.scheduled(redis) < jobs:
            return True
        begun = now
        return False

    with bench.working(system) as workers:
        wait_for(moving, SECONDS_TO_START, "the first is in its queue", *workers, every=0.001)
        while (left := system.scheduled(redis)) and time.perf_counter() - begun < limit:
            time.sleep(0.001)
        yield Sample(DUE, JOBS_PER_SECOND, (jobs - left) / (time.perf_counter() - begun), 1)


def long_run(bench: Bench, system: System) -> Iterator[Sample]:
    """One process under load for a long time: whether the memory of the process that runs the jobs grows."""
    total = bench.sizes.long_run
    slice_of = min(total, LONGEST_QUEUE) // 10
    enqueued = 0

    def done() -> int:
        nonlocal enqueued
        unfinished = system.unfinished(bench.valkey.client)
        if enqueued < total and unfinished <= LONGEST_QUEUE - slice_of:
            bench.client.call("enqueue_bulk", system.job("noop"), slice_of)
            enqueued += slice_of
            unfinished += slice_of
        return enqueued - unfinished

    done()
    with bench.working(system) as workers:
        for jobs, when in ((total // 20, "at the start"), (total // 2, "in the middle"), (total, "at the end")):
            wait_for(lambda jobs=jobs: done() >= jobs, 60 + total / 1_000, f"{jobs} jobs are done", *workers)
            if size := memory_of_newest(workers[0]):
                yield Sample(f"memory over {total:,} jobs, {when}", "MB", size, 1)


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
    systems.MIXED: mixed,
    systems.PRIORITY: critical,
    systems.FAR: far,
    systems.SCHEDULED: scheduled,
    systems.EACH_QUEUE: each_queue,
    systems.LONG_RUN: long_run,
}
#: Loads of which a run makes one pair alone: they are long enough in themselves.
ONCE = frozenset((systems.PRIORITY, systems.EACH_QUEUE, systems.LONG_RUN))
