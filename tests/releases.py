"""The tests' settings for workers of different releases: ENTRIES has their entries, `name[:every[:command]]`."""

import os

from jobs.scheduler import Entry
from tests.settings import *  # noqa: F403
from tests.settings import JOBS


def _entry(name: str, every: str = "3600", command: str = "WriteNote") -> Entry:
    return Entry(name, f"sample.{command}", args=(name,), every=float(every))


SCHEDULE = [_entry(*each.split(":")) for each in os.environ.get("ENTRIES", "").split()]
JOBS = {**JOBS, "SCHEDULE": f"{__name__}.SCHEDULE"}
