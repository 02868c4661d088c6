"""The tests' settings for a site below a path, with debugging on."""

from tests.settings import *  # noqa: F403

FORCE_SCRIPT_NAME = "/below"
DEBUG = True
