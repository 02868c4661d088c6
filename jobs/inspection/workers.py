"""The workers as they show themselves in Redis: who lives, what each runs."""

from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any

import orjson
from redis import Redis

from jobs.broker import keys
from jobs.broker.connections import Script, Word, run_many, servers
from jobs.broker.times import as_text, time_of
from jobs.errors import ChangeRefusedError

AT_ONCE = 250  # workers that a script reads: some 2 ms of the server's time
EVERY_JOB = 1_000_000  # more than a worker has threads

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
    version: str  # RQ's, as it says to RQ's tools
    python: str
    code_version: str  # of the project, as jobs.inspection.version tells it; "" before there was one
    is_ours: bool  # else it is RQ's own
    running: tuple[RunningJob, ...]


def listed(*, jobs: int = EVERY_JOB) -> list[Worker]:
    """Every worker that RQ's lists have, each with so many of the jobs that it runs. Two round trips a server."""
    found: list[Worker] = []
    for client in servers():
        found += _read(client, sorted(as_text(key) for key in client.smembers(keys.WORKERS)), jobs=jobs)
    return found


def get(name: str) -> tuple[Worker, str] | None:
    """The worker of that name, and the stacks that it has shown lately, if any; None when there is no such worker."""
    for client in servers():
        if found := _read(client, [keys.worker(name)]):
            shown: Any = client.get(keys.stacks(name))
            return found[0], (shown or b"").decode(errors="replace")
    return None


def _read(client: Redis, records: list[str], *, jobs: int = EVERY_JOB) -> list[Worker]:
    words: list[Word] = [keys.RQ, jobs, *_FIELDS]
    calls: list[tuple[list[str], list[Word]]] = [
        (records[first : first + AT_ONCE], words) for first in range(0, len(records), AT_ONCE)
    ]
    answers = [answer for each in run_many(client, _WORKERS, calls) for answer in each] if calls else []
    found: list[Worker] = []
    for key, answer in zip(records, answers, strict=True):
        if answer and any(answer[0]):
            running = tuple(_running(*each) for each in sorted(answer[1]))
            found.append(_worker(keys.name_of(key), answer[0], running))
    return found


def tell(name: str, command: str) -> None:
    """
    Tell a worker's parent something: `quiet` (take no more jobs), `stop`, `stacks` (write them to its log, and
    where `get` finds them), `profile` (its next attempts: `jobs.attempts.profiles`).

    Raises ChangeRefusedError when there is no such worker.
    """
    for client in servers():
        if client.exists(keys.worker(name)):
            word = "shutdown" if command == "stop" else command
            client.publish(keys.channel(name), orjson.dumps({"command": word}))
            return
    raise ChangeRefusedError(f"There is no worker {name!r} any more.")


def _worker(name: str, record: list[bytes | None], running: tuple[RunningJob, ...]) -> Worker:
    known = {field: (value or b"").decode(errors="replace") for field, value in zip(_FIELDS, record, strict=True)}
    return Worker(
        name=name,
        queues=tuple(known["queues"].split(",")),
        hostname=known["hostname"],
        pid=int(_number(known["pid"])),
        born=time_of(known["birth"]),
        seen=time_of(known["last_heartbeat"]),
        state=known["state"],
        threads=int(_number(known["threads"] or 1)),
        busy=int(_number(known["running"] or len(running))),
        finished=int(_number(known["successful_job_count"])),
        failed=int(_number(known["failed_job_count"])),
        working_seconds=_number(known["total_working_time"]),
        memory_mb=_number(known["memory_mb"]),
        load=_number(known["load"]),
        version=known["version"],
        python=known["python_version"],
        code_version=known["code_version"],
        is_ours=known["threads"] != "",
        running=running,
    )


def _running(claim: bytes, queue: bytes, started: bytes) -> RunningJob:
    return RunningJob(as_text(claim).partition(":")[0], as_text(queue), time_of(started))


def _number(value: Any) -> float:
    try:
        number = float(value or 0)
    except ValueError:
        return 0.0
    return number if isfinite(number) else 0.0
