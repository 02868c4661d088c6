"""The settings of a worker."""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSettings:
    """The options of `manage.py rqworker`, checked."""

    queues: dict[str, int | None]  # by priority; with weights, where the fetch is weighted
    concurrency: int = 10  # threads per process
    async_concurrency: int = 0  # tasks on the event loop of each process; 0: it has none
    processes: int = 1
    name: str = ""  # of the worker; with several processes, the first part of each one's
    burst: bool = False  # end when the queues are empty
    max_jobs: int | None = None  # recycle a process after this many jobs
    max_memory: int | None = None  # recycle a process above this many megabytes
    max_idle_time: int | None = None  # recycle a process that was idle for this many seconds
    health_port: int | None = None  # the port for probes over HTTP


def drawn(queues: Iterable[str], weights: Mapping[str, int | None]) -> list[str]:
    """
    Return queues in an order drawn by weight, without replacement: the largest of random ** (1 / weight) first
    (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006).
    """
    return sorted(queues, key=lambda name: -(random.random() ** (1 / (weights[name] or 1))))
