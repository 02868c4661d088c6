"""Writes a worker's heartbeats, and its records as an rq worker, which RQ's tools read."""

import os
import platform
import socket
import time
from collections.abc import Iterable

from rq.version import VERSION

from jobs import runtime
from jobs.broker import keys, names
from jobs.broker.connections import Script, Word
from jobs.broker.times import DAY, SILENCE, as_text, iso
from jobs.inspection.version import code_version
from jobs.worker.connection import Wire
from jobs.worker.scoreboard import Board

EVERY = 5.0  # seconds between beats
RECORD_TTL = 90  # seconds that RQ's records of a worker live without another beat
FORGOTTEN = DAY  # seconds after which a dead worker is removed from the lists
RECORDED_AFTER = 1.0  # seconds that a job must have run before RQ's record of its execution is written

_BEAT, _NAME = Script("beat.lua"), Script("name.lua")
_LISTED = Script("listed.lua")


def beat(wire: Wire, worker: str, pid: int, born: float, queues: Iterable[str], board: Board) -> None:
    """Write to Redis that this worker lives, and which jobs it runs. Raises redis-py's errors."""
    monotonic = time.monotonic()
    running = board.running()
    busy = len(running) if not board.tasks else len(board.running(tasks=False))
    finished, failed, working = board.counted()
    fields: dict[str, Word] = {
        "birth": iso(born),
        "last_heartbeat": iso(runtime.now()),
        "queues": ",".join(queues),
        "pid": pid,
        "hostname": socket.gethostname(),
        "ip_address": "unknown",
        "version": VERSION,
        "code_version": code_version(),
        "python_version": platform.python_version(),
        "state": "busy" if running else "idle",
        "successful_job_count": finished,
        "failed_job_count": failed,
        "total_working_time": working,
        "threads": board.threads,
        "memory_mb": round(resident_megabytes(pid), 1),
        "running": busy,
        "load": round(os.getloadavg()[0], 2),
    }
    if board.tasks:
        fields |= {"tasks": board.tasks, "tasks_running": len(running) - busy, "loop_lag": round(board.lag(), 3)}
    words: list[Word] = [len(fields)]
    for pair in fields.items():
        words += pair
    for job in running:
        age = monotonic - job.started
        if age > RECORDED_AFTER:
            words += (job.job_id, job.execution, job.queue, repr(age))
    key = keys.worker(worker)
    wire.run(_BEAT, [key, f"{key}:executions"], keys.RQ, worker, RECORD_TTL, SILENCE, *words)


def resident_megabytes(pid: int) -> float:
    """Return a process's resident memory in megabytes; 0 without /proc, or if the process is gone."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0


def register(wire: Wire, worker: str, queues: Iterable[str]) -> None:
    """Add a worker to RQ's lists of workers. Its first beat must have been written before."""
    wire.run(_LISTED, [keys.WORKERS, *map(keys.workers_of, queues)], "SADD", keys.worker(worker))


def take_name(wire: Wire, name: str) -> str:
    """
    Register a worker under that name or, if it is taken, under a new life's: the claims of an earlier life are a dead
    worker's. The check and the registration are one step, since replicas with one name start at once. Returns the
    worker's name.
    """
    while not wire.run(_NAME, [], name):
        name = new_life(name)
    return name


def unregister(wire: Wire, worker: str | bytes, queues: Iterable[str]) -> None:
    """
    Remove a worker from the lists. The claims that it still holds count as a dead worker's from here on. The name is
    bytes if it was read from the server. Its record goes first and its name, which others may take then, last.
    """
    key = keys.worker(as_text(worker))
    wire.call("DEL", key, f"{key}:executions")
    wire.run(_LISTED, [keys.WORKERS, *map(keys.workers_of, queues)], "SREM", key)
    wire.call("ZREM", keys.ALIVE, worker)


def is_recorded(wire: Wire, worker: str, born: float) -> bool:
    """
    Whether the record of a worker is there, and of this life of its name. Then `unregister` has not begun, so the name
    is no other worker's. Raises redis-py's errors.
    """
    return bool(wire.call("HGET", keys.worker(worker), "birth") == iso(born).encode())


def forgotten(wire: Wire) -> list[bytes]:
    """Return the workers whose last beat was FORGOTTEN seconds ago or more, by the server's clock."""
    seconds, _ = wire.call("TIME")
    found: list[bytes] = wire.read("ZRANGEBYSCORE", keys.ALIVE, "-inf", int(seconds) - FORGOTTEN)
    return found


def new_name(given: str, number: int, processes: int) -> str:
    """Return a name for a worker: the given one for a single process, otherwise a unique one by `new_life`."""
    first = given or f"{names.as_worker(socket.gethostname())}.{os.getpid()}"
    if given and processes == 1 and number == 0:
        return given
    return new_life(f"{first}.{number}")


def new_life(name: str) -> str:
    """Return a unique name from one that an earlier worker may have had."""
    return f"{name}.{os.urandom(3).hex()}"
