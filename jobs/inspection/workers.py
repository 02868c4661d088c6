"""Reads the workers' records in Redis: which workers live, and which jobs each one runs."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from redis import Redis

from jobs import runtime
from jobs.broker import keys
from jobs.broker.connections import Script, Word, run_many, servers
from jobs.broker.times import as_text, number_of, time_of
from jobs.errors import ChangeRefusedError

AT_ONCE = 250  # workers that one script reads: some 2 ms of the server's time
EVERY_JOB = 1_000_000  # more jobs than any worker has threads

_WORKERS = Script("workers.lua")
_FIELDS: tuple[str, ...] = (
    "queues",
    "hostname",
    "pid",
    "birth",
    "last_heartbeat",
    "state",
    "threads",
    "running",
    "successful_job_count",
)
_FIELDS += ("failed_job_count", "total_working_time", "memory_mb", "load", "version", "python_version", "code_version")
_FIELDS += ("tasks", "tasks_running", "loop_lag")


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that a worker had been running for a second or more at its last beat."""

    job_id: str
    queue: str
    started_at: datetime | None


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker process, at its last beat."""

    name: str
    queues: tuple[str, ...]
    hostname: str
    pid: int
    born: datetime | None
    seen: datetime | None
    state: str
    threads: int
    busy: int  # threads that ran a job
    finished: int
    failed: int
    working_seconds: float
    memory_mb: float
    load: float  # of its machine, over a minute
    version: str  # RQ's, for RQ's tools
    python: str
    code_version: str  # of the project, by jobs.inspection.version; "" from a worker of an older release
    is_ours: bool  # False for RQ's own worker
    running: tuple[RunningJob, ...]
    tasks: int = 0  # that its event loop runs at once, at most; 0: it has none
    tasks_running: int = 0
    loop_lag: float = 0.0  # seconds that the loop has kept ready tasks waiting, at most, in the last ten

    def silence(self) -> float:
        """Return the seconds since its last beat; 0 if it has none in its record."""
        return runtime.now() - self.seen.timestamp() if self.seen else 0.0


def listed(*, jobs: int = EVERY_JOB) -> list[Worker]:
    """Return every worker in RQ's lists, each with at most `jobs` of its running jobs. Two round trips a server."""
    return [worker for client in servers() for worker in listed_on(client, jobs=jobs)]


def listed_on(client: Redis, *, jobs: int = EVERY_JOB) -> list[Worker]:
    """Return those of one server."""
    return _read(client, sorted(as_text(key) for key in client.smembers(keys.WORKERS)), jobs=jobs)


alive = listed  # its name in release 0.1; goes in 0.3


def get(name: str) -> tuple[Worker, str] | None:
    """Return a worker by its name, with the stacks that it has published lately, or "". None for an unknown worker."""
    for client in servers():
        if workers := _read(client, [keys.worker(name)]):
            stacks: Any = client.get(keys.stacks(name))
            return workers[0], (stacks or b"").decode(errors="replace")
    return None


def _read(client: Redis, records: list[str], *, jobs: int = EVERY_JOB) -> list[Worker]:
    words: list[Word] = [keys.RQ, jobs, *_FIELDS]
    calls: list[tuple[list[str], list[Word]]] = [
        (records[first : first + AT_ONCE], words) for first in range(0, len(records), AT_ONCE)
    ]
    answers = [answer for each in run_many(client, _WORKERS, calls) for answer in each] if calls else []
    workers: list[Worker] = []
    for key, answer in zip(records, answers, strict=True):
        if answer and any(answer[0]):
            running = tuple(_running(*each) for each in sorted(answer[1]))
            workers.append(_worker(keys.name_of(key), answer[0], running))
    return workers


def send(name: str, command: str) -> None:
    """
    Send a command to a worker's parent: `quiet` (take no more jobs), `stop`, `stacks` (log the stacks, and publish
    them for `get`), `profile` (its next attempts: `jobs.attempts.profiles`).

    Raises ChangeRefusedError if no worker has this name.
    """
    for client in servers():
        if client.exists(keys.worker(name)):
            word = "shutdown" if command == "stop" else command
            client.publish(keys.channel(name), orjson.dumps({"command": word}))
            return
    raise ChangeRefusedError(f"There is no worker {name!r} any more.")


def _worker(name: str, record: list[bytes | None], running: tuple[RunningJob, ...]) -> Worker:
    fields = {field: (value or b"").decode(errors="replace") for field, value in zip(_FIELDS, record, strict=True)}
    return Worker(
        name=name,
        queues=tuple(fields["queues"].split(",")),
        hostname=fields["hostname"],
        pid=int(number_of(fields["pid"])),
        born=time_of(fields["birth"]),
        seen=time_of(fields["last_heartbeat"]),
        state=fields["state"],
        threads=int(number_of(fields["threads"] or 1)),
        busy=int(number_of(fields["running"] or len(running))),
        finished=int(number_of(fields["successful_job_count"])),
        failed=int(number_of(fields["failed_job_count"])),
        working_seconds=number_of(fields["total_working_time"]),
        memory_mb=number_of(fields["memory_mb"]),
        load=number_of(fields["load"]),
        version=fields["version"],
        python=fields["python_version"],
        code_version=fields["code_version"],
        is_ours=fields["threads"] != "",
        running=running,
        tasks=int(number_of(fields["tasks"] or 0)),
        tasks_running=int(number_of(fields["tasks_running"] or 0)),
        loop_lag=number_of(fields["loop_lag"] or 0),
    )


def _running(claim: bytes, queue: bytes, started: bytes) -> RunningJob:
    return RunningJob(as_text(claim).partition(":")[0], as_text(queue), time_of(started))
