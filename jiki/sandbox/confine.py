"""
Confines a process that is about to run untrusted code: its own process, permanently.

Three layers, none of which needs privileges: resource limits; `landlock`, which allows reading the folder and Python's
library, and no writing; `seccomp`, which allows only the system calls of `syscalls.ALLOWED`, with the arguments of
`arguments.ARGUMENTS`. Programs that run without Django import this module, so it uses only the standard library.
"""

import ctypes
import os
import resource
import signal
import sys
import threading

import landlock  # type: ignore[import-not-found]  # beside this file, where the programs look
import seccomp  # type: ignore[import-not-found]
from kernel import checked, libc  # type: ignore[import-not-found]

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
CAPABILITIES_3 = 0x20080522


def limit(cpu: int, memory: int, files: int) -> None:
    """Set the limits: seconds of CPU time, bytes of memory, open files. No file may grow, and no process be added."""
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_NOFILE, files),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        resource.setrlimit(what, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))  # first SIGXCPU, which shows the cause; then SIGKILL


def end_with(parent: int) -> None:
    """Let the kernel kill this process when the thread that started it ends; exit if the parent has already ended."""
    if sys.platform == "linux":
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def confine(folder: str) -> None:
    """Allow only reading `folder` and the library. OSError if the kernel cannot enforce it."""
    if sys.platform != "linux":
        raise OSError(f"{sys.platform} has neither Landlock nor seccomp")
    if threading.active_count() > 1:
        raise OSError("a process with threads cannot be confined as a whole")
    _drop_capabilities()
    checked(libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "dumpable")  # no core dump or crash report for a crash
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    landlock.restrict(folder)
    seccomp.restrict()


def watch() -> None:
    """
    Refuse operations by Python's audit events, if the kernel cannot confine the process.

    This stops mistakes, but no attacker who knows Python's internals. `SUBMISSION_SANDBOX=any` allows it.
    """
    refused = (
        "socket.",
        "subprocess.",
        "os.",
        "shutil.",
        "ctypes.",
        "pty.",
        "resource.",
        "signal.pthread_kill",
        "fcntl.",
    )
    harmless = {"os.listdir", "os.scandir", "os.chdir", "os.walk", "os.fwalk"}

    def refuse(event: str, arguments: tuple[object, ...]) -> None:
        if event.startswith(refused) and event not in harmless:
            raise PermissionError(f"Operation not permitted: {event}")
        if event == "open" and isinstance(flags := arguments[2], int) and flags & (os.O_WRONLY | os.O_RDWR):
            raise PermissionError("Operation not permitted: writing to a file")
        if event == "_posixsubprocess.fork_exec":
            raise PermissionError("Operation not permitted: starting a process")

    sys.addaudithook(refuse)


def _drop_capabilities() -> None:
    """Drop root's capabilities. The user id stays root, so a library in root's home stays readable."""
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_3, 0)
    checked(libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")
