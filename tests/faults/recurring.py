"""`FAULT=<step>:<number>` for a scheduler's process: it is killed when it comes to that step so often."""

import os
import signal
from collections.abc import Callable

from django.apps import AppConfig

from jobs import scheduler
from jobs.management.commands import rqscheduler
from jobs.scheduler import Scheduler
from tests.faults.apps import around


class RecurringFaultsConfig(AppConfig):
    name = "tests.faults.recurring"
    label = "recurring_faults"

    def ready(self) -> None:
        """Arm the scheduler when it starts, not here: see tests/faults/apps.py."""
        around(rqscheduler.Command, "handle", before=arm)


LEASE = 1_500  # milliseconds instead of 5,000, so that the next process need not wait so long for a killed one's


def arm(*args: object) -> None:
    scheduler.LEASE = LEASE
    step, _, number = os.environ.get("FAULT", "").partition(":")
    if step:
        method, after = STEPS[step]
        _kill_at(method, int(number), after=after)


# A step, as a method of the scheduler, and whether the end comes after it or before.
STEPS = {
    "before it looks": ("_write_due", False),
    "before the runs are written": ("_write_runs", False),
    "before they are sent": ("_pipelined", False),
    "after they are written": ("_pipelined", True),
    "after it looked": ("_write_due", True),
}


def _kill_at(method: str, number: int, *, after: bool) -> None:
    original: Callable[..., object] = getattr(Scheduler, method)
    left = number

    def dying(self: Scheduler, *args: object) -> object:
        nonlocal left
        left -= 1
        if left == 0 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(self, *args)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(Scheduler, method, dying)
