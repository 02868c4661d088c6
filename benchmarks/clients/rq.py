"""Stock RQ, with its defaults but that no result is kept."""

import os
from datetime import UTC, datetime

import django
from redis import Redis
from rq import Queue

from benchmarks import work

if "DJANGO_SETTINGS_MODULE" in os.environ:
    django.setup()

PACKAGE = "rq"
SLICE = 1_000  # jobs a pipeline


def read_row() -> None:
    """Of this module, so that a worker, which imports what a job names, loads Django."""
    work.read_row_as_integrations_do()


JOBS = {
    "noop": work.noop,
    "wait_50ms": work.wait_50ms,
    "wait_1ms": work.wait_1ms,
    "read_row": read_row,
}

redis = Redis.from_url(os.environ["REDIS_URL"])
queues = {name: Queue(name, connection=redis) for name in ("critical", "default", "low")}


def enqueue_one(job: str, n: int) -> None:
    for _ in range(n):
        queues["default"].enqueue(JOBS[job], result_ttl=0)


def enqueue_bulk(job: str, n: int, queue: str = "default") -> None:
    for first in range(0, n, SLICE):
        queues[queue].enqueue_many([Queue.prepare_data(JOBS[job], result_ttl=0)] * min(SLICE, n - first))


def schedule(job: str, n: int, when: float) -> None:
    due = datetime.fromtimestamp(when, UTC)
    for first in range(0, n, SLICE):
        with redis.pipeline() as pipeline:
            for _ in range(min(SLICE, n - first)):
                queues["default"].enqueue_at(due, JOBS[job], result_ttl=0, pipeline=pipeline)
            pipeline.execute()


def send_answer(queue: str, sent: float) -> None:
    queues[queue].enqueue(work.answer, sent, result_ttl=0)
