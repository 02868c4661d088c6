"""
A Redis full of jobs in every state: `python -m benchmarks.filled`, with the pages' settings and servers in its
environment.

All of it is written by the engine's own code: jobs are deferred, claimed by workers that run nothing, and end as such
an attempt would. When it is done it prints one line of JSON, what there is to look at; from then on it beats for those
workers, until its input ends.
"""

import json
import os
import random
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any

import django

django.setup()

from django.contrib.auth import get_user_model  # noqa: E402
from django.core.management import call_command  # noqa: E402

from benchmarks.app.commands import ImportRow, Noop, SendReport  # noqa: E402
from jobs import conf, inspection, scheduler  # noqa: E402
from jobs.attempts.outcomes import Dead, Discarded, Finished, Outcome, Retried  # noqa: E402
from jobs.broker import connections  # noqa: E402
from jobs.broker.connections import get_connection  # noqa: E402
from jobs.inspection import attempt_counts, query, samples  # noqa: E402
from jobs.record import registry  # noqa: E402
from jobs.recurring import runs  # noqa: E402
from jobs.retries import Progress  # noqa: E402
from jobs.scheduler import Entry  # noqa: E402
from jobs.worker import heartbeat  # noqa: E402
from jobs.worker.connection import Wire  # noqa: E402
from jobs.worker.fetch import Fetch  # noqa: E402
from jobs.worker.scoreboard import Board  # noqa: E402

EMAIL, PASSWORD = "admin@jiki.example", "only for benchmarks"
AT_ONCE = 10_000  # jobs a call of defer_many
MINUTES = 72 * 60  # of counts
ERRORS = (ValueError, KeyError, TimeoutError, ConnectionResetError, PermissionError)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How many there are of each."""

    queued: int = 1_000_000
    scheduled: int = 100_000
    dead: int = 100_000
    retrying: int = 10_000
    waiting: int = 10_000
    finished: int = 50_000
    discarded: int = 10_000
    workers: int = 1_000
    entries: int = 200
    minutes: int = MINUTES
    one_queue: bool = False


QUICK = Sizes(
    queued=10_000,
    scheduled=1_000,
    dead=1_000,
    retrying=100,
    waiting=100,
    finished=500,
    discarded=100,
    workers=20,
    entries=20,
    minutes=300,
)

Command = Any  # a subclass of Mandate; all of these take a row's number
ROWS: dict[Command, Callable[[int], tuple[Any, ...]]] = {
    SendReport: lambda n: (n, f"Report {n % 1_000} of the week"),
    ImportRow: lambda n: (n, {"name": f"learner {n}", "language": "python", "track": str(n % 50)}),
    Noop: lambda n: (),
}


def deferred(count: int, queue: str | None = None, **options: Any) -> list[str]:
    """So many jobs of all the commands in turn; their ids."""
    ids: list[str] = []
    kinds = list(ROWS.items())
    for at, first in enumerate(range(0, count, AT_ONCE)):
        command, row = kinds[at % len(kinds)] if count > AT_ONCE else kinds[0]
        numbers = range(first, min(first + AT_ONCE, count))
        ids += [job.id for job in command.defer_many(list(map(row, numbers)), queue=queue, **options)]
    return ids


class IdleWorker:
    """A worker that claims and commits as ours do, and runs nothing."""

    def __init__(self, number: int, threads: int) -> None:
        self.name = f"bench-{number:04}.{os.urandom(3).hex()}"
        self.queues = list(conf.queues())
        self.board = Board(threads)
        self.born = time.time()
        self.fetch = Fetch(
            self.name,
            dict.fromkeys(self.queues),
            threads=threads,
            board=self.board,
            blocks=False,
            release=str,
            burst=True,
        )

    def beat(self, wire: Wire) -> None:
        heartbeat.beat(wire, self.name, os.getpid(), self.born, self.queues, self.board)

    def enlist(self, wire: Wire) -> None:
        self.beat(wire)
        heartbeat.register(wire, self.name, self.queues)

    def run(self, count: int) -> None:
        """Have so many jobs running, for a minute already."""
        started = time.monotonic() - 60
        for thread in range(count):
            claim = self.fetch.take()
            assert claim is not None, "There is nothing left to run."
            self.board.start(thread, started, started + 1e6, claim.id, claim.execution, claim.queue)
        self.fetch._wire.close()  # 1,000 of them would be too many

    def drain(self, outcomes: Iterator[Outcome], wire: Wire) -> None:
        """End all that is queued in one of these ways each, as long as there are any."""
        beat_at = 0.0
        while (claim := self.fetch.take()) is not None:
            if time.monotonic() > beat_at:  # who does not beat may not claim
                self.beat(wire)
                beat_at = time.monotonic() + heartbeat.EVERY
            command = json.loads(claim.payload)[2][0]
            self.fetch.commits.add(claim, next(outcomes, DONE), command, random.uniform(0.001, 0.1))


DONE = Finished(None, 86_400)


def ends(sizes: Sizes) -> list[Outcome]:
    """What becomes of the jobs that have been run, in no order."""
    tracebacks = [(error.__name__, raised(error)) for error in ERRORS]
    found: list[Outcome] = [DONE] * sizes.finished
    for number in range(sizes.dead):
        name, text = tracebacks[number % len(tracebacks)]
        found.append(Dead(f"{name}: something number {number} went wrong", text, "a line of the log\n" * 5))
    for number in range(sizes.retrying):
        name, text = tracebacks[number % len(tracebacks)]
        found.append(Retried(3_600 + number, f"{name}: not yet", text, Progress(attempts=1), "a line of the log"))
    found += [Discarded("MissingRecordError: users.User:7 is gone")] * sizes.discarded
    random.shuffle(found)
    return found


def raised(error: type[Exception]) -> str:
    try:
        raise error("something went wrong")
    except Exception:
        return traceback.format_exc()


def count_past(sizes: Sizes) -> None:
    """What the commits of three days have counted, as step.lua does, and the samples of each minute."""
    now = int(time.time() // 60)
    labels = [
        f"{command.queue}|{name}|{outcome}|{bucket}"
        for name, command in sorted(registry.all_commands().items())
        for outcome, buckets in (("finished", range(9, 17)), ("retried", range(12, 15)), ("dead", (13,)))
        for bucket in buckets
    ]
    client = get_connection("default")
    for first in range(now - sizes.minutes, now, 100):
        with client.pipeline(transaction=False) as pipeline:
            for minute in range(first, min(first + 100, now)):
                counts: dict[Any, Any] = {label: random.randrange(1, 500) for label in labels}
                measured: dict[Any, Any] = {queue: f"{random.randrange(500)} 0.250" for queue in conf.queues()}
                for key, known in ((f"jobs:counts:{minute}", counts), (f"jobs:samples:{minute}", measured)):
                    pipeline.hset(key, mapping=known)
                    pipeline.expire(key, samples.COUNTS_KEPT)
            pipeline.execute()


def fill(sizes: Sizes) -> tuple[dict[str, Any], list[IdleWorker]]:
    """Everything, in an order in which each worker finds in the queues what it is to run."""
    wire = Wire("default")
    call_command("migrate", verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)
    get_user_model().objects.create_superuser(email=EMAIL, password=PASSWORD)
    listed = [
        Entry(f"entry {n}", "benchmarks.SendReport", args=(n, "weekly"), cron="0 4 * * *") for n in range(sizes.entries)
    ]
    assert not scheduler.sync(listed)
    for entry in scheduler.entries():
        for _ in range(20):
            runs.push_run(get_connection(entry.queue), entry.id)
    ended = ends(sizes)
    deferred(len(ended))
    drainer = IdleWorker(0, threads=1_000)
    drainer.enlist(wire)
    drainer.drain(iter(ended), wire)
    heartbeat.unregister(wire, drainer.name, drainer.queues)
    statuses = inspection.counts()
    dead = first_of("failed")
    blocked = deferred(sizes.waiting // 10, prereq_jobs=dead[:1])
    running = deferred(sizes.workers * 10)
    waiting = deferred(sizes.waiting, prereq_jobs=running[:2])
    alive = [IdleWorker(number, threads=10) for number in range(1, sizes.workers + 1)]
    for worker in alive:
        worker.enlist(wire)
        worker.run(10)
        worker.beat(wire)
    scheduled = deferred(sizes.scheduled, spread=timedelta(days=7), wait=3_600)
    count_past(sizes)
    attempt_counts.roll_up()  # as jobs.CollectMetrics does every minute
    names = ["default"] if sizes.one_queue else list(conf.queues())
    queued = [job_id for name in names for job_id in deferred(sizes.queued // len(names), name)]
    known = {
        "login": [EMAIL, PASSWORD],
        "sizes": asdict(sizes),
        "found": {state.value: str(count) for state, count in (statuses | inspection.counts()).items()},
        "jobs": {
            "queued": queued[len(queued) // 2],
            "running": running[0],
            "dead": dead[0],
            "waiting": waiting[0],
            "blocked": blocked[0],
            "scheduled": scheduled[0],
        },
        # The cursor of a page is where each list goes on; this one is most of the way down.
        "deep": {
            "queued": deep(names, sizes.queued),
            "scheduled": deep(list(conf.queues()), sizes.scheduled),
            "dead": deep(list(conf.queues()), sizes.dead),
        },
        "memory_mb": round(get_connection("default").info("memory")["used_memory"] / 2**20),
    }
    return known, alive


def first_of(registry_name: str) -> list[str]:
    """Ids of some jobs in the registry of that name, of any queue."""
    for queue in conf.queues():
        if found := get_connection(queue).zrange(f"rq:{registry_name}:{queue}", 0, 9):
            return [job_id.decode() for job_id in found]
    raise LookupError(registry_name)


def deep(names: list[str], count: int) -> str:
    return query._cursor({name: int(count / len(names) * 0.9) for name in names})


def main() -> None:
    connections.CLIENT_OPTIONS["socket_timeout"] = 60  # seconds: the machine may be busy, and nobody waits for a page
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sizes = QUICK if "--quick" in sys.argv else Sizes()
    known, alive = fill(replace(sizes, one_queue="--one-queue" in sys.argv))
    print(json.dumps(known), file=answers, flush=True)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    wire = Wire("default")
    while not ended.is_set():
        for worker in alive:
            worker.beat(wire)
            if ended.wait(heartbeat.EVERY / len(alive)):
                break


if __name__ == "__main__":
    main()
