"""
What a load has to work with, and the rule by which a drain is measured. It is the same for every system.

A drain: the jobs are enqueued first, then the workers start, and the clock runs from when a tenth is done to when nine
tenths are (or time is up), seen by looking every 10 ms at where the system keeps unfinished jobs. Thus starting up, the
first connection and the last stragglers do not count, and no job does anything for the measurement's sake.

Of the same stretch of time: what it took of the processor, the worker and the server, which says more than seconds do
where other work disturbs the machine.

A worker that logs an error fails the measurement: jobs that fail go fast, too.
"""

import contextlib
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.processes import Child, Client, cpu_seconds, descendants, wait_for
from benchmarks.servers import Valkey
from benchmarks.systems import Places, System

JOBS_PER_SECOND = "jobs/s"
MICROSECONDS = "µs a job"
THREADS = 10  # of each process, or coroutines of it, where a load does not say otherwise
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
    mixed: int
    backlog: int
    scheduled: int
    long_run: int
    pairs: int


FULL = Sizes(
    seconds=3,
    one_at_a_time=10_000,
    bulk=100_000,
    probes=100,
    mixed=5_000,
    backlog=1_000_000,
    scheduled=100_000,
    long_run=1_000_000,
    pairs=5,
)
QUICK = Sizes(
    seconds=0.7,
    one_at_a_time=1_500,
    bulk=10_000,
    probes=20,
    mixed=500,
    backlog=20_000,
    scheduled=10_000,
    long_run=50_000,
    pairs=1,
)


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
                worker = Child(command, env=system.env(places, django=django), log=log, folder=system.folder(places))
                workers.append(stack.enter_context(worker))
            yield workers
            for worker in workers:
                if error := _ERROR.search(worker.log.read_text(errors="replace")):
                    raise RuntimeError(f"The worker logged {error[0]}:\n{worker.log_end()}")

    def fill(self, system: System, job: str, rate: float) -> int:
        """Enqueue as many jobs as the system does in a load's time at this rate; returns how many."""
        jobs = max(20, int(rate * self.sizes.seconds))
        self.client.call("enqueue_bulk" if system.bulk else "enqueue_one", system.job(job), jobs)
        return jobs

    def calls(self, load: str, verb: str, job: str, jobs: int) -> Iterator[Sample]:
        """How many jobs a second the client enqueues, and what each takes of the processor."""
        self.client.call(verb, job, 20)  # opens the connection
        spent = self._spent(self.client)
        yield Sample(load, JOBS_PER_SECOND, jobs / self.client.call(verb, job, jobs))
        yield from self._costs(load, ("the client", "the server"), spent, self._spent(self.client), jobs, None)

    def drain(
        self, load: str, system: System, jobs: int, workers: Sequence[Child], *, processes: int = 1
    ) -> Iterator[Sample]:
        """Jobs a second, by the rule above, and what each takes of the processor."""

        def left() -> int:
            return system.unfinished(self.valkey.client)

        wait_for(lambda: left() <= jobs * 0.9, SECONDS_TO_START, "a tenth of the jobs is done", *workers)
        start, first = time.perf_counter(), left()
        spent = self._spent(*workers)
        end, last = start, first
        while last > jobs * 0.1 and end - start < 2 * self.sizes.seconds:
            time.sleep(LOOK_EVERY)
            end, last = time.perf_counter(), left()
        if last == first:
            raise RuntimeError(f"{jobs} jobs are too few to measure: they are gone between two looks.")
        now = self._spent(*workers)
        yield Sample(load, JOBS_PER_SECOND, (first - last) / (end - start), processes)
        yield from self._costs(load, ("the worker", "the server"), spent, now, first - last, processes)

    def _spent(self, *children: Child) -> tuple[float, float]:
        """The processor time of these, and of the server, until now."""
        return cpu_seconds(*children), cpu_seconds(self.valkey)

    def _costs(
        self,
        load: str,
        whose: tuple[str, str],
        before: tuple[float, float],
        after: tuple[float, float],
        jobs: int,
        processes: int | None,
    ) -> Iterator[Sample]:
        for who, earlier, later in zip(whose, before, after, strict=True):
            if later > earlier:  # else there is no /proc, or too little was done for its clock
                yield Sample(f"{load}, CPU of {who}", MICROSECONDS, 1e6 * (later - earlier) / jobs, processes)


def memory(workers: Sequence[Child]) -> float | None:
    """What these workers occupy, in MB, pages that their processes share counted once; None where it cannot be seen."""
    family = [process for worker in workers for process in descendants(worker.process.pid)]
    if not family:
        return None
    largest = max(family, key=lambda process: process.resident_mb)
    return largest.resident_mb + sum(process.private_mb for process in family if process is not largest)


def memory_of_newest(worker: Child) -> float | None:
    """The resident memory of the process that the worker started last, in MB: with us, the one that runs jobs."""
    family = descendants(worker.process.pid)
    return max(family, key=lambda process: process.started).resident_mb if family else None
