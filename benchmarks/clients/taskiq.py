"""taskiq on a Redis list, its fastest broker, with uvloop. Jobs are coroutines, the ORM's in its thread pool."""

import asyncio
import os

import django
from taskiq_redis import ListQueueBroker

from benchmarks import work

if "DJANGO_SETTINGS_MODULE" in os.environ:
    django.setup()

PACKAGE = "taskiq"

broker = ListQueueBroker(os.environ["REDIS_URL"])


@broker.task
async def noop() -> None:
    work.noop()


@broker.task
async def wait_50ms() -> None:
    await asyncio.sleep(0.05)


@broker.task
async def answer(sent: float) -> None:
    work.answer(sent)


@broker.task
async def mixed(milliseconds: int, sent: float) -> None:
    work.started(sent)
    await asyncio.sleep(milliseconds / 1_000)


read_row = broker.task(work.read_row_as_integrations_do)
JOBS = {"noop": noop, "wait_50ms": wait_50ms, "read_row": read_row}
loop = asyncio.new_event_loop()


def enqueue_one(job: str, n: int) -> None:
    async def enqueue() -> None:
        task = JOBS[job]
        for _ in range(n):
            await task.kiq()

    loop.run_until_complete(enqueue())


def send_answer(queue: str, sent: float) -> None:
    loop.run_until_complete(answer.kiq(sent))


def send_mixed(milliseconds: int, sent: float) -> None:
    loop.run_until_complete(mixed.kiq(milliseconds, sent))
