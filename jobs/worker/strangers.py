"""
Orphans that the kernel gives to this process, because it is PID 1 of a container or a "child subreaper": what a job
leaves behind. When one ends, somebody must ask for its exit status, or its entry in the process table stays.
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
    """Children of this process that it has not started. Made before it starts its own workers."""

    def __init__(self) -> None:
        self._adopts = os.getpid() == 1 or _is_subreaper()
        self._known = set(_children())  # whoever has started those asks for them

    def reap(self, ours: Iterable[int]) -> None:
        """Ask for the exit statuses of those that have ended; not for `ours`, nor for those of a Popen."""
        if not self._adopts:
            return
        ended = [pid for pid in set(_children()) - self._known - set(ours) if _has_ended(pid)]
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
    except OSError:  # not Linux, or a kernel that does not tell
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
