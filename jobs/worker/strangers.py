"""
Reaps orphans: processes that a job leaves behind, and that the kernel gives to this process, because it is PID 1 of a
container or a "child subreaper". When one ends, its exit status must be read, or its process table entry stays.
"""

import ctypes
import gc
import os
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

GET_CHILD_SUBREAPER = 37  # of prctl(2)


class Strangers:
    """Children of this process that it has not started. Create it before the process starts its own workers."""

    def __init__(self) -> None:
        self._adopts = os.getpid() == 1 or _is_subreaper()
        self._earlier = set(_children())  # their starter reads their exit statuses

    def reap(self, ours: Iterable[int]) -> None:
        """Read the exit statuses of orphans that have ended; not those of `ours`, nor of a Popen."""
        if not self._adopts:
            return
        ended = [pid for pid in set(_children()) - self._earlier - set(ours) if _has_ended(pid)]
        if ended:
            started = {each.pid for each in gc.get_objects() if type(each) is subprocess.Popen}
            for pid in ended:
                if pid not in started:
                    with suppress(ChildProcessError):
                        os.waitpid(pid, os.WNOHANG)


def _children() -> list[int]:
    try:
        return [
            int(word)
            for thread in os.listdir("/proc/self/task")
            for word in Path(f"/proc/self/task/{thread}/children").read_text().split()
        ]
    except OSError:  # not Linux, or a kernel without this file
        return []


def _has_ended(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def _is_subreaper() -> bool:
    answer = ctypes.c_int(0)
    try:
        ctypes.CDLL(None).prctl(GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0)
    except (OSError, AttributeError):  # not Linux
        return False
    return bool(answer.value)
