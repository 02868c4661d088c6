"""dramatiq on Redis. It has no bulk enqueue and, by default, no results."""

import os

import django
import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks import work

if "DJANGO_SETTINGS_MODULE" in os.environ:
    django.setup()

PACKAGE = "dramatiq"

dramatiq.set_broker(RedisBroker(url=os.environ["REDIS_URL"]))
JOBS = {
    "noop": dramatiq.actor(work.noop),
    "wait_50ms": dramatiq.actor(work.wait_50ms),
    "read_row": dramatiq.actor(work.read_row_as_integrations_do),
}
answer = dramatiq.actor(work.answer)
mixed = dramatiq.actor(work.mixed)


def enqueue_one(job: str, n: int) -> None:
    actor = JOBS[job]
    for _ in range(n):
        actor.send()


def send_answer(queue: str, sent: float) -> None:
    answer.send(sent)


def send_mixed(milliseconds: int, sent: float) -> None:
    mixed.send(milliseconds, sent)
