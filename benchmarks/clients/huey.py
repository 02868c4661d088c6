"""huey on its Redis storage. It has no bulk enqueue, and no result is kept for a task that returns None."""

import os

import django
from huey import RedisHuey

from benchmarks import work

if "DJANGO_SETTINGS_MODULE" in os.environ:
    django.setup()

PACKAGE = "huey"

huey = RedisHuey("bench", url=os.environ["REDIS_URL"])
JOBS = {
    "noop": huey.task()(work.noop),
    "wait_50ms": huey.task()(work.wait_50ms),
    "read_row": huey.task()(work.read_row_as_integrations_do),
}
answer = huey.task()(work.answer)
mixed = huey.task()(work.mixed)


def enqueue_one(job: str, n: int) -> None:
    task = JOBS[job]
    for _ in range(n):
        task()


def send_answer(queue: str, sent: float) -> None:
    answer(sent)


def send_mixed(milliseconds: int, sent: float) -> None:
    mixed(milliseconds, sent)
