"""The workers as they show themselves in Redis: who lives, what each runs."""

from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any

import orjson
from redis import Redis
from rq.defaults import RQ_KEY_PREFIX
from rq.utils import as_text

from jobs.connections import Script, run_script, servers
from jobs.errors import ChangeRefusedError
from jobs.history import time_of

STACKS = "jobs:stacks:"  # and a worker's name: what its threads were doing when it was last asked
AT_ONCE = 500  # workers that a script reads, each with its jobs: it holds the server up for a few milliseconds
_WORKERS = Script("lua/workers.lua")


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
    running: tuple[RunningJob, ...]


def alive() -> list[Worker]:
    """Every worker that RQ's lists have, with what it runs; AT_ONCE a round trip."""
    found: list[Worker] = []
    for client in servers():
        keys = sorted(as_text(key) for key in client.smembers(f"{RQ_KEY_PREFIX}:workers"))
        found += _read(client, keys)
    return found


def get(name: str) -> tuple[Worker, str] | None:
    """The worker of that name, and the stacks that it has shown lately, if any; None when there is no such worker."""
    for client in servers():
        if found := _read(client, [f"{RQ_KEY_PREFIX}:worker:{name}"]):
            shown: Any = client.get(f"{STACKS}{name}")
            return found[0], (shown or b"").decode(errors="replace")
    return None


def _read(client: Redis, keys: list[str]) -> list[Worker]:
    found: list[Worker] = []
    names = [key.removeprefix(f"{RQ_KEY_PREFIX}:worker:") for key in keys]
    for first in range(0, len(names), AT_ONCE):
        some = names[first : first + AT_ONCE]
        answers = run_script(client, _WORKERS, [], [f"{RQ_KEY_PREFIX}:", *some])
        for name, (fields, jobs) in zip(some, answers, strict=True):
            record = dict(zip(fields[::2], fields[1::2], strict=True))
            running = tuple(map(_running, jobs[::3], jobs[1::3], jobs[2::3]))
            if record:
                found.append(_worker(name, record, running))
    return found


def tell(name: str, command: str) -> None:
    """
    Tell a worker's parent something: `quiet` (take no more jobs), `stop`, `stacks` (write them to its log, and
    where `get` finds them).

    Raises ChangeRefusedError when there is no such worker.
    """
    for client in servers():
        if client.exists(f"{RQ_KEY_PREFIX}:worker:{name}"):
            word = "shutdown" if command == "stop" else command
            client.publish(f"{RQ_KEY_PREFIX}:pubsub:{name}", orjson.dumps({"command": word}))
            return
    raise ChangeRefusedError(f"There is no worker {name!r} any more.")


def _worker(name: str, record: dict[bytes, bytes], running: tuple[RunningJob, ...]) -> Worker:
    known = {as_text(field): value.decode(errors="replace") for field, value in record.items()}
    return Worker(
        name=name,
        queues=tuple(known.get("queues", "").split(",")),
        hostname=known.get("hostname", ""),
        pid=int(_number(known.get("pid"))),
        born=time_of(known.get("birth")),
        seen=time_of(known.get("last_heartbeat")),
        state=known.get("state", ""),
        threads=int(_number(known.get("threads", "1"))),
        busy=int(_number(known.get("running", len(running)))),
        finished=int(_number(known.get("successful_job_count"))),
        failed=int(_number(known.get("failed_job_count"))),
        working_seconds=_number(known.get("total_working_time")),
        memory_mb=_number(known.get("memory_mb")),
        load=_number(known.get("load")),
        version=known.get("version", ""),
        python=known.get("python_version", ""),
        running=running,
    )


def _running(claim: bytes, queue: bytes | None, started: bytes | None) -> RunningJob:
    return RunningJob(as_text(claim).partition(":")[0], as_text(queue or b""), time_of(started))


def _number(value: Any) -> float:
    try:
        number = float(value or 0)
    except ValueError:
        return 0.0
    return number if isfinite(number) else 0.0
