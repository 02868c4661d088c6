"""The tests' settings for scheduler processes that are to fail: see tests/faults/recurring.py."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.faults.recurring.RecurringFaultsConfig"]
