"""The tests' settings for workers that leave the session of a kept connection as it is."""

from tests.settings import *  # noqa: F403
from tests.settings import JOBS

JOBS = JOBS | {"RESET_CONNECTIONS": False}
