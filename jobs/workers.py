"""The workers as they show themselves in Redis: who lives, what each runs."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from rq.defaults import RQ_KEY_PREFIX
from rq.utils import as_text, str_to_date

from jobs.connections import servers
from jobs.errors import ChangeRefusedError


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
    version: str
    code_version: str  # of the project, as jobs.version tells it; "" before there was one
    is_ours: bool  # else it is RQ's own
    running: tuple[RunningJob, ...]


def alive() -> list[Worker]:
    """Every worker that RQ's lists have, with what it runs; three round trips a server."""
    found: list[Worker] = []
    for client in servers():
        keys = sorted(as_text(key) for key in client.smembers(f"{RQ_KEY_PREFIX}:workers"))
        with client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hgetall(key)
                pipeline.smembers(f"{key}:executions")
            answers: list[Any] = pipeline.execute(raise_on_error=False)
            claims = [sorted(map(as_text, each)) if isinstance(each, set) else [] for each in answers[1::2]]
            for each in claims:
                for member in each:
                    pipeline.hmget(f"{RQ_KEY_PREFIX}:job:{member.partition(':')[0]}", "origin", "started_at")
            records = iter(pipeline.execute(raise_on_error=False))
        for key, record, members in zip(keys, answers[::2], claims, strict=True):
            running = tuple(_running(member, next(records)) for member in members)
            if isinstance(record, dict) and record:
                found.append(_worker(key.removeprefix(f"{RQ_KEY_PREFIX}:worker:"), record, running))
    return found


def tell(name: str, command: str) -> None:
    """
    Tell a worker's parent something: `quiet` (take no more jobs), `stop`, `stacks` (write them to its log).

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
        born=_time(known.get("birth")),
        seen=_time(known.get("last_heartbeat")),
        state=known.get("state", ""),
        threads=int(_number(known.get("threads", "1"))),
        busy=int(_number(known.get("running", len(running)))),
        finished=int(_number(known.get("successful_job_count"))),
        failed=int(_number(known.get("failed_job_count"))),
        working_seconds=_number(known.get("total_working_time")),
        memory_mb=_number(known.get("memory_mb")),
        version=known.get("version", ""),
        code_version=known.get("code_version", ""),
        is_ours="threads" in known,
        running=running,
    )


def _running(member: str, record: Any) -> RunningJob:
    queue, started = record if isinstance(record, list) else (None, None)
    return RunningJob(member.partition(":")[0], as_text(queue or b""), _time(as_text(started or b"")))


def _number(value: Any) -> float:
    try:
        return float(value or 0)
    except ValueError:
        return 0.0


def _time(value: str | None) -> datetime | None:
    try:
        return str_to_date(value) if value else None
    except ValueError:
        return None
