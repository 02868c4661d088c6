"""The tests' settings for workers of different releases: ENTRIES names the recurring entries of theirs."""

import os

from jobs.scheduler import Entry
from tests.settings import *  # noqa: F403
from tests.settings import JOBS

NAMES = os.environ.get("ENTRIES", "").split()
SCHEDULE = [Entry(name, "sample.WriteNote", args=("x",), every=3_600) for name in NAMES]
JOBS = {**JOBS, "SCHEDULE": f"{__name__}.SCHEDULE"}
