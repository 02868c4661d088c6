"""
Kills the processes that one thread of this process has started, with their descendants, and names them.

Linux lists them in /proc/<pid>/task/<thread>/children; elsewhere none are found.
"""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Killed(NamedTuple):
    """A process that was killed: its pid and its command line."""

    pid: int
    command: str


def kill_started_by(native_thread_id: int) -> list[Killed]:
    """
    Kill (SIGKILL) the processes that a thread of this process has started, with all their descendants. A thread that
    waits for one then often continues. Returns the killed processes, parents first. Raises nothing.

    `native_thread_id` is `threading.Thread.native_id`. multiprocessing's resource tracker and fork server are left
    alone, because they serve the whole process.
    """
    spared = _helpers()
    killed: list[Killed] = []
    for pid in _children(os.getpid(), native_thread_id):
        if pid not in spared:
            _kill(pid, os.getpid(), killed)
    return killed


def _kill(pid: int, parent: int, killed: list[Killed]) -> None:
    with suppress(OSError):
        handle = os.pidfd_open(pid)
        try:
            if _parent(pid) != parent:  # it has ended meanwhile, and the pid is another process's
                return
            command = _command(pid)
            signal.pidfd_send_signal(handle, signal.SIGSTOP)  # so that it starts no more while its children are listed
            below = [child for thread in _threads(pid) for child in _children(pid, thread)]
            killed.append(Killed(pid, command))
            for child in below:
                _kill(child, pid, killed)
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)


def _threads(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def _children(pid: int, thread: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{thread}/children").read_text().split()]
    except OSError:  # it has ended, or the kernel has no such file
        return []


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _command(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ")
    return words.decode(errors="replace") or Path(f"/proc/{pid}/comm").read_text().strip()


def _helpers() -> set[int | None]:
    """Return the pids of multiprocessing's helper processes, None for those not started."""
    pids: set[int | None] = set()
    for module, name, attribute in (
        ("multiprocessing.resource_tracker", "_resource_tracker", "_pid"),
        ("multiprocessing.forkserver", "_forkserver", "_forkserver_pid"),
    ):
        pids.add(getattr(getattr(sys.modules.get(module), name, None), attribute, None))
    return pids
