"""What a worker was asked to be."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSettings:
    """The options of `manage.py rqworker`, checked."""

    queues: dict[str, int | None]  # by priority; with weights, where the fetch is weighted
    concurrency: int = 10  # threads a process
    processes: int = 1
    name: str = ""  # of the worker; with several processes, the first part of each one's
    burst: bool = False  # end when the queues are empty
    max_jobs: int | None = None  # recycle a process after so many jobs
    max_memory: int | None = None  # recycle a process above so many megabytes
    max_idle_time: int | None = None  # recycle a process that had nothing to do for so many seconds
    health_port: int | None = None  # where to answer probes over HTTP
