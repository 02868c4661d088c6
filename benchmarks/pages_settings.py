"""The benchmarks' settings for the web server whose pages are timed: as deployed, with what a request costs counted."""

import os

from benchmarks.settings import *  # noqa: F403
from benchmarks.settings import JOBS, MIDDLEWARE, RQ_QUEUES

MORE = {f"tenant-{number}": "" for number in range(35)}  # 40 queues in all
RQ_QUEUES = RQ_QUEUES | dict.fromkeys(MORE, RQ_QUEUES["low"])
JOBS = JOBS | {"QUEUES": JOBS["QUEUES"] | MORE, "DEAD_LIMIT": 1_000_000, "SCHEDULE": None, "COLLECT_METRICS": False}
STATIC_ROOT = os.environ["STATIC_ROOT"]
MIDDLEWARE = ["benchmarks.counted.counted", *MIDDLEWARE]
