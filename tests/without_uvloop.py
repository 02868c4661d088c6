"""The tests' settings for worker processes that find no uvloop."""

import sys

from tests.settings import *  # noqa: F403

sys.modules["uvloop"] = None  # type: ignore[assignment]
