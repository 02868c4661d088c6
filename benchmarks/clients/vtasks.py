"""
django-vtasks on Valkey, with uvloop. Its worker is one event loop, so jobs are coroutines, but for the ORM's.

Within a queue a task of higher priority goes first; its queues have no order.
"""

import asyncio
from datetime import UTC, datetime
from typing import Any

import django

django.setup()

from django_vtasks import task  # noqa: E402

from benchmarks import work  # noqa: E402

PACKAGE = "django-vtasks"
SLICE = 1_000  # jobs a round trip


@task
async def noop() -> None:
    work.noop()


@task
async def wait_50ms() -> None:
    await asyncio.sleep(0.05)


@task
async def wait_1ms() -> None:
    await asyncio.sleep(0.001)


@task
async def answer(sent: float) -> None:
    work.answer(sent)


@task
async def mixed(milliseconds: int, sent: float) -> None:
    work.started(sent)
    await asyncio.sleep(milliseconds / 1_000)


@task
def read_row() -> None:
    work.read_row()  # its worker checks connections itself


JOBS = {"noop": noop, "wait_50ms": wait_50ms, "wait_1ms": wait_1ms, "read_row": read_row}


def enqueue_one(job: str, n: int) -> None:
    for _ in range(n):
        JOBS[job].enqueue()


def enqueue_bulk(job: str, n: int, queue: str = "default") -> None:
    _enqueue_many(JOBS[job], n)


def schedule(job: str, n: int, when: float) -> None:
    _enqueue_many(JOBS[job].using(run_after=datetime.fromtimestamp(when, UTC)), n)


def send_answer(queue: str, sent: float) -> None:
    answer.using(priority=10 if queue == "critical" else 0).enqueue(sent)


def send_mixed(milliseconds: int, sent: float) -> None:
    mixed.enqueue(milliseconds, sent)


def _enqueue_many(job: Any, n: int) -> None:
    for first in range(0, n, SLICE):
        job.get_backend().enqueue_many([(job, (), {})] * min(SLICE, n - first))
