"""celery on Redis, results ignored. With Django's settings in the environment it looks after connections itself."""

import os

from celery import Celery

from benchmarks import work

PACKAGE = "celery"

app = Celery("bench", broker=os.environ["REDIS_URL"])
app.conf.task_ignore_result = True
# Its documentation's advice for short tasks; the default is 4.
app.conf.worker_prefetch_multiplier = 128
# The default is to close the database connection before and after each task.
app.conf.CELERY_DB_REUSE_MAX = 10_000_000
JOBS = {
    "noop": app.task(work.noop),
    "wait_50ms": app.task(work.wait_50ms),
    "read_row": app.task(work.read_row),
}
answer = app.task(work.answer)


def enqueue_one(job: str, n: int) -> None:
    task = JOBS[job]
    for _ in range(n):
        task.delay()


def send_answer(queue: str, sent: float) -> None:
    answer.delay(sent)
