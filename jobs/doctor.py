"""
What is wrong, found without a person looking: of the servers, the workers, the queues, the jobs, the schedule, the
database. Each finding says what, why it matters, and what mends it.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

from django.db import OperationalError, connections
from redis import Redis
from redis.exceptions import RedisError
from rq.defaults import RQ_KEY_PREFIX
from rq.utils import as_text

from jobs import conf, metrics, queues, scheduler, workers
from jobs.connections import address, servers
from jobs.errors import JobsError
from jobs.inspection import JobQuery
from jobs.job import JobState

SKEW = 2.0  # seconds by which this machine's clock may differ from the server's
FULL = 0.9  # of maxmemory
BUSY_DEAD = 100  # dead jobs of one error that deserve a line of their own
STUCK = 24 * 3_600  # seconds that a job may run, or be retried, before somebody should look


class Severity(IntEnum):
    """How bad: the command's exit status is the worst one's."""

    NOTE = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong."""

    severity: Severity
    what: str
    why: str
    mend: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "severity": self.severity.name.lower()}


def examine() -> list[Finding]:
    """Everything that is wrong now, the worst first. Raises nothing: what cannot be examined is a finding."""
    found: list[Finding] = [*_databases()]
    unreachable = [finding for client in servers() for finding in _reachable(client)]
    found += unreachable
    if not unreachable:
        for look in (_servers, _workers, _queues, _jobs, _schedule):
            found += _looked(look)
    return sorted(found, key=lambda finding: -finding.severity)


def _looked(look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except (JobsError, RedisError) as error:
        what = look.__name__.strip("_")
        yield Finding(Severity.ERROR, f"The {what} could not be examined: {error}", "", "Mend that, and look again.")


# --- servers ---------------------------------------------------------------------------------


def _reachable(client: Redis) -> Iterator[Finding]:
    try:
        client.ping()
    except RedisError as error:
        yield Finding(
            Severity.ERROR,
            f"Redis at {address(client)} does not answer: {error}",
            "No job can be enqueued, taken or finished; workers wait for it.",
            "Start it, or correct REDIS_URL. redis-cli ping says PONG when it runs.",
        )


def _servers() -> Iterator[Finding]:
    for client in servers():
        where, info = address(client), client.info()
        policy = _config(client, "maxmemory-policy")
        if int(info.get("maxmemory", 0)) and policy not in ("noeviction", ""):
            yield Finding(
                Severity.ERROR,
                f"Redis at {where} evicts keys when it is full (maxmemory-policy {policy}).",
                "An evicted key is a lost job.",
                "CONFIG SET maxmemory-policy noeviction, and the same in its configuration file.",
            )
        if int(info.get("maxmemory", 0)) and info["used_memory"] > FULL * info["maxmemory"]:
            yield Finding(
                Severity.WARNING,
                f"Redis at {where} is {info['used_memory'] / info['maxmemory']:.0%} full.",
                "When it is full, nothing can be enqueued and outcomes wait.",
                "Raise maxmemory, delete finished and dead jobs, or lower result_ttl.",
            )
        if not int(info.get("aof_enabled", 0)) and _config(client, "save") in ("", None):
            yield Finding(
                Severity.WARNING,
                f"Redis at {where} writes nothing to disk.",
                "A restart loses every job.",
                "CONFIG SET appendonly yes, and appendfsync everysec or always.",
            )
        elif int(info.get("aof_enabled", 0)) and _config(client, "appendfsync") == "no":
            yield Finding(
                Severity.WARNING,
                f"Redis at {where} leaves it to the system when its file is written (appendfsync no).",
                "A crash of the machine loses what was accepted in the last half minute or so.",
                "CONFIG SET appendfsync everysec (about two seconds may be lost) or always (nothing).",
            )
        if info.get("aof_last_write_status", "ok") != "ok" or info.get("rdb_last_bgsave_status", "ok") != "ok":
            yield Finding(
                Severity.ERROR,
                f"Redis at {where} could not write to disk.",
                "It may refuse writes, and a restart loses what is not on disk.",
                "Look at its log and its disk: df -h.",
            )
        if info.get("role") in ("slave", "replica"):
            yield Finding(
                Severity.ERROR,
                f"Redis at {where} is a replica.",
                "It refuses writes.",
                "Point REDIS_URL at the primary, or use Sentinel.",
            )
        skew = time.time() - float(
            ".".join(f"{part:06d}" if at else str(part) for at, part in enumerate(client.time()))
        )
        if abs(skew) > SKEW:
            yield Finding(
                Severity.WARNING,
                f"This machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} that of {where}.",
                "Delays that are worked out here come too early or too late.",
                "Set both by NTP: timedatectl set-ntp true.",
            )


def _config(client: Redis, name: str) -> str | None:
    try:
        found: dict[Any, Any] = client.config_get(name)
    except RedisError:  # a hosted server may not tell
        return None
    return {as_text(key): as_text(value) for key, value in found.items()}.get(name)


# --- workers and queues ----------------------------------------------------------------------


def _workers() -> Iterator[Finding]:
    alive = workers.alive()
    if not alive:
        yield Finding(
            Severity.ERROR,
            "No worker is running.",
            "Nothing is done, and nothing that is due is started.",
            "python manage.py rqworker critical default mailers background low",
        )
        return
    served = {name for worker in alive for name in worker.queues}
    for name in conf.queues():
        if name not in served:
            yield Finding(
                Severity.ERROR,
                f"No worker serves the queue {name}.",
                "Its jobs wait for ever.",
                f"Add {name} to the queues of a worker: python manage.py rqworker {name}",
            )
    for worker in alive:
        silent = time.time() - worker.seen.timestamp() if worker.seen else 0.0
        if silent > 30:
            yield Finding(
                Severity.WARNING,
                f"The worker {worker.name} has not been heard of for {silent:.0f} s.",
                "It is dead or cut off; its jobs go to others.",
                "Look at its machine and its log. It leaves the list by itself.",
            )


def _queues() -> Iterator[Finding]:
    paused = queues.paused()
    for name, sample in metrics.measure().items():
        target = metrics.target(name)
        if name in paused and sample.length:
            yield Finding(
                Severity.WARNING,
                f"The queue {name} is paused, and {sample.length:,} jobs wait in it.",
                "They wait until somebody resumes it.",
                f"Resume it in the dashboard, or jobs.queues.resume({name!r}).",
            )
        elif sample.latency > target:
            yield Finding(
                Severity.WARNING,
                f"The first job of the queue {name} has waited {sample.latency:.0f} s; {target:g} are the target.",
                "There is more to do than the workers do.",
                "Start more: --processes for jobs that compute, --concurrency for those that wait.",
            )
    for client in servers():
        listed = {
            as_text(key).removeprefix(f"{RQ_KEY_PREFIX}:queue:") for key in client.smembers(f"{RQ_KEY_PREFIX}:queues")
        }
        for name in sorted(listed - set(conf.queues())):
            length = client.llen(f"{RQ_KEY_PREFIX}:queue:{name}")
            if length:
                yield Finding(
                    Severity.WARNING,
                    f"{length:,} jobs are in the queue {name!r}, which this project does not have.",
                    "No worker of ours serves it. Its name may be misspelt.",
                    f"The queues are: {', '.join(conf.queues())}. Move or delete those jobs, or add the queue.",
                )


# --- jobs and the schedule -------------------------------------------------------------------


def _jobs() -> Iterator[Finding]:
    dead = JobQuery(state=JobState.DEAD)
    total = dead.count()
    if total.value:
        errors: dict[str, int] = {}
        for row in dead.all(1_000):
            errors[row.error or "no reason"] = errors.get(row.error or "no reason", 0) + 1
        causes = ", ".join(f"{n:,} {error}" for error, n in sorted(errors.items(), key=lambda pair: -pair[1])[:3])
        yield Finding(
            Severity.WARNING if total.value >= BUSY_DEAD else Severity.NOTE,
            f"{total} dead jobs; of the first 1,000: {causes}.",
            "They are kept for a person to decide.",
            "Look at them in the dashboard, grouped by error; then retry or delete them.",
        )
    blocked = JobQuery(state=JobState.BLOCKED).count()
    if blocked.value:
        yield Finding(
            Severity.WARNING,
            f"{blocked} jobs are blocked by prerequisites that ended badly.",
            "They wait until somebody retries the prerequisite, runs them anyway or cancels them.",
            "The dashboard lists them under Blocked.",
        )
    for row in JobQuery(state=JobState.RUNNING).all(1_000):
        if row.started_at is not None and time.time() - row.started_at.timestamp() > STUCK:
            yield Finding(
                Severity.WARNING,
                f"Job {row.id} ({row.description[:80]}) has been running since {row.started_at:%d %b %H:%M}.",
                "It holds a thread, and a deployment interrupts it.",
                "Cancel it, or split what it does.",
            )


def _schedule() -> Iterator[Finding]:
    entries = scheduler.entries()
    lag = scheduler.lag()
    if entries and lag > 10:
        yield Finding(
            Severity.ERROR,
            f"The most overdue recurring entry is {lag:.0f} s late.",
            "No worker schedules: runs are missed.",
            "Start a worker, or python manage.py rqscheduler; look for errors in their logs.",
        )
    histories = scheduler.histories(entries, 5)
    for entry in entries:
        ended = [
            run.outcome for run in histories[entry.id] if run.what == "run" and run.outcome not in ("", "unfinished")
        ]
        if len(ended) >= 3 and set(ended) == {"dead"}:
            yield Finding(
                Severity.WARNING,
                f"The last {len(ended)} runs of the recurring entry {entry.name!r} died.",
                "What it is for is not done.",
                "Its runs, with their errors, are on the dashboard's page Recurring.",
            )


# --- the database ----------------------------------------------------------------------------


def _databases() -> Iterator[Finding]:
    for alias in connections:
        try:
            connections[alias].ensure_connection()
        except OperationalError as error:
            yield Finding(
                Severity.ERROR,
                f"The database {alias!r} cannot be reached: {str(error).strip().splitlines()[0]}",
                "Jobs that use it fail, and are retried.",
                "Start it, or correct DATABASE_URL.",
            )
