"""The worker, on a real server; its processes are real where the test is about processes."""

import time
from collections.abc import Callable
from typing import Any


def eventually(condition: Callable[[], Any], timeout: float = 20) -> Any:
    """Return the condition's value once it is true. Polls it, with a limit in seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still not so after {timeout} s"
        time.sleep(0.01)
    return value
