"""The tests' settings for a worker process that reads pickles."""

from tests.settings import *  # noqa: F403
from tests.settings import JOBS

JOBS = JOBS | {"ALLOW_PICKLE": True}
