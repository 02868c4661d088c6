"""
Confining a process that is about to run somebody else's code. It holds for its own process, for good.

Three layers, none of which needs a privilege: resource limits; Landlock (Linux 5.13), by which it reads its folder and
Python's library and writes nowhere; seccomp, by which it makes the system calls of `syscalls.ALLOWED` and no other.
This module is imported by programs that run apart from Django: the standard library is all there is.
"""

import ctypes
import os
import resource
import signal
import sys
import threading

import syscalls  # type: ignore[import-not-found]  # beside this file, where the programs look

LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo")
FILES = ("/etc/ld.so.cache", "/etc/localtime")

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446  # on every architecture
READ_FILE, READ_DIR = 1 << 2, 1 << 3
RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # how many rights a version of Landlock knows; later ones know 16
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000 | 1, 0x80000000  # 1 is EPERM
CAPABILITIES_3 = 0x20080522

libc = ctypes.CDLL(None, use_errno=True)


def limit(cpu: int, memory: int, files: int) -> None:
    """Set the limits: seconds of computing, bytes of memory, open files. No file may grow, no process be added."""
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_NOFILE, files),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))  # SIGXCPU first, which says what it was; then SIGKILL


def end_with(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends. The parent may have ended before."""
    if sys.platform == "linux":
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def confine(folder: str) -> None:
    """Take everything away but reading `folder` and the library. OSError where the kernel cannot."""
    if sys.platform != "linux":
        raise OSError(f"{sys.platform} has neither Landlock nor seccomp")
    if threading.active_count() > 1:
        raise OSError("a process with threads cannot be confined as a whole")
    _drop_capabilities()
    _checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _read_only(folder)
    _few_system_calls()


def watch() -> None:
    """
    Instead of `confine`, where the kernel cannot: refuse by Python's own audit events.

    It stops mistakes, and not somebody who knows Python's inside. `SUBMISSION_SANDBOX=any` allows it.
    """
    refused = ("socket.", "subprocess.", "os.", "shutil.", "ctypes.", "pty.", "resource.", "signal.pthread_kill")
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
    """Root's own; it remains root by name, and so keeps reading a library that lies in root's home."""
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_3, 0)
    _checked(libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")


def _read_only(folder: str) -> None:
    version = libc.syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    _checked(version, "Landlock")
    rights = ctypes.c_uint64((1 << RIGHTS.get(version, 16)) - 1)
    rules = libc.syscall(LANDLOCK_CREATE_RULESET, ctypes.byref(rights), ctypes.c_size_t(8), 0)
    _checked(rules, "Landlock's rules")
    for path in (folder, os.path.join(sys.base_prefix, "lib"), *LIBRARIES, *FILES):
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # not every system has them all
        allowed = READ_FILE | READ_DIR if os.path.isdir(path) else READ_FILE
        rule = allowed.to_bytes(8, sys.byteorder) + place.to_bytes(4, sys.byteorder)
        _checked(libc.syscall(LANDLOCK_ADD_RULE, rules, 1, rule, 0), f"Landlock's rule for {path}")
        os.close(place)
    _checked(libc.syscall(LANDLOCK_RESTRICT_SELF, rules, 0), "Landlock's restriction")
    os.close(rules)


def _few_system_calls() -> None:
    architecture, allowed = syscalls.numbers(os.uname().machine)
    # Of the call, its architecture stands at byte 4, its number at byte 0. Jumps are counted from the next line.
    program = [
        (LOAD, 0, 0, 4),
        (JUMP_IF_EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, 0),
        *((JUMP_IF_EQUAL, len(allowed) - line, 0, number) for line, number in enumerate(allowed)),
        (RETURN, 0, 0, REFUSE),
        (RETURN, 0, 0, ALLOW),
    ]
    code = b"".join(
        op.to_bytes(2, sys.byteorder) + bytes([then, other]) + value.to_bytes(4, sys.byteorder)
        for op, then, other, value in program
    )
    held = ctypes.create_string_buffer(code)
    filter = (ctypes.c_uint64 * 2)(len(program), ctypes.addressof(held))  # the length is 16 bits, and padded
    _checked(libc.prctl(PR_SET_SECCOMP, 2, ctypes.byref(filter), 0, 0), "seccomp")


def _checked(result: int, what: str) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
