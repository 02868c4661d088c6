"""Jiki's own settings, in production mode, with the benchmarks' commands beside the product's."""

import os

from config.settings import *  # noqa: F403
from config.settings import INSTALLED_APPS, JOBS

# No command of `make bench` is durable, and a worker would relay for those that are.
JOBS = JOBS | {"OUTBOX": os.environ.get("BENCH_OUTBOX")}
SILENCED_SYSTEM_CHECKS = ["jobs.E015"]  # some of the product's are

if batch := os.environ.get("JOBS_BATCH"):
    JOBS = JOBS | {"BATCH": int(batch)}

INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.app"]
