"""The tests' settings with a list of recurring entries of which one cannot work."""

from tests.settings import *  # noqa: F403
from tests.settings import JOBS

JOBS = JOBS | {"SCHEDULE": "tests.sample.entries.ONE_IS_WRONG"}
