"""The project itself: `defer` and `defer_many`."""

from datetime import UTC, datetime

import django

django.setup()

from benchmarks.app import commands  # noqa: E402

PACKAGE = None
JOBS = {
    "noop": commands.Noop,
    "noop_kept": commands.NoopKept,
    "wait_50ms": commands.Wait50ms,
    "wait_1ms": commands.Wait1ms,
    "read_row": commands.ReadRow,
}


def enqueue_one(job: str, n: int) -> None:
    command = JOBS[job]
    for _ in range(n):
        command.defer()


def enqueue_bulk(job: str, n: int, queue: str = "default") -> None:
    JOBS[job].defer_many([()] * n, queue=queue)


def schedule(job: str, n: int, when: float) -> None:
    JOBS[job].defer_many([()] * n, wait_until=datetime.fromtimestamp(when, UTC))


def send_answer(queue: str, sent: float) -> None:
    commands.Answer.defer(sent, queue=queue)


def send_mixed(milliseconds: int, sent: float) -> None:
    commands.Mixed.defer(milliseconds, sent)
