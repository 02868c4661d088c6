"""Beating for a worker, and being an rq worker to whoever looks."""

import os
import platform
import socket
import time
from collections.abc import Iterable

from rq.version import VERSION

from jobs.broker import keys, names
from jobs.broker.connections import Script, Word
from jobs.broker.times import DAY, as_text, iso
from jobs.inspection.version import code_version
from jobs.worker.connection import Wire
from jobs.worker.scoreboard import Board

EVERY = 5.0  # seconds between beats
RECORD_TTL = 90  # seconds that RQ's records of a worker live without another beat
FORGOTTEN = DAY  # seconds after which a dead worker is struck off the lists
RECORDED_AFTER = 1.0  # seconds that a job must have run before RQ's record of its execution is written

_BEAT, _NAME = Script("shared.lua", "beat.lua"), Script("shared.lua", "name.lua")
_LISTED = Script("shared.lua", "listed.lua")


def beat(wire: Wire, worker: str, pid: int, born: float, queues: Iterable[str], board: Board) -> None:
    """Tell Redis that this worker lives and what it runs. Raises redis-py's errors."""
    now, monotonic = time.time(), time.monotonic()
    running = board.running()
    finished, failed, working = board.counted()
    fields: dict[str, Word] = {
        "birth": iso(born),
        "last_heartbeat": iso(now),
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
        "running": len(running),
        "load": round(os.getloadavg()[0], 2),
    }
    words: list[Word] = [len(fields)]
    for pair in fields.items():
        words += pair
    for job in running:
        age = monotonic - job.started
        if age > RECORDED_AFTER:
            words += (job.job_id, job.execution, job.queue, repr(age))
    key = keys.worker(worker)
    wire.run(_BEAT, [key, f"{key}:executions"], keys.RQ, worker, RECORD_TTL, repr(now), *words)


def resident_megabytes(pid: int) -> float:
    """A process's resident memory; 0 where the system does not tell, or when it is gone."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0


def register(wire: Wire, worker: str, queues: Iterable[str]) -> None:
    """Enter a worker in RQ's lists of workers. Its first beat must have been written before."""
    wire.run(_LISTED, [keys.WORKERS, *map(keys.workers_of, queues)], "SADD", keys.worker(worker))


def take_name(wire: Wire, name: str) -> str:
    """
    Register a worker under that name, or, if it is taken, under another life's: what an earlier life left behind is a
    dead worker's. To look and to take are one step, since replicas with one name start at once. Returns its name.
    """
    while not wire.run(_NAME, [], name):
        name = new_life(name)
    return name


def unregister(wire: Wire, worker: str | bytes, queues: Iterable[str]) -> None:
    """
    Strike a worker off: what it still held counts as a dead worker's from here on. In bytes: one of another's making.
    """
    key = keys.worker(as_text(worker))
    wire.call("ZREM", keys.ALIVE, worker)
    wire.run(_LISTED, [keys.WORKERS, *map(keys.workers_of, queues)], "SREM", key)
    wire.call("DEL", key, f"{key}:executions")


def new_name(given: str, number: int, processes: int) -> str:
    """A name for a worker; the one given goes to a single process. `new_life` makes it one that nobody had before."""
    first = given or f"{names.as_worker(socket.gethostname())}.{os.getpid()}"
    if given and processes == 1 and number == 0:
        return given
    return new_life(f"{first}.{number}")


def new_life(name: str) -> str:
    """Another name for a worker that has lived before under this one."""
    return f"{name}.{os.urandom(3).hex()}"
