"""The tests' settings for worker processes that are to fail: see tests/faults."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.faults"]

if level := os.environ.get("ISOLATION"):  # of MariaDB by its name, of PostgreSQL by its number
    options = DATABASES["default"].setdefault("OPTIONS", {})
    options["isolation_level"] = int(level) if level.isdigit() else level
