"""The benchmarks' settings for the web server whose pages are timed: as deployed, with what a request costs counted."""

import os

from benchmarks.settings import *  # noqa: F403
from benchmarks.settings import JOBS, MIDDLEWARE

JOBS = JOBS | {"DEAD_LIMIT": 1_000_000, "SCHEDULE": None, "COLLECT_METRICS": False}
STATIC_ROOT = os.environ["STATIC_ROOT"]
MIDDLEWARE = ["benchmarks.counted.counted", *MIDDLEWARE]
