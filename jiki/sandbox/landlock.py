"""
Landlock (Linux 5.13): a process reads its folder and Python's library, and writes nowhere.

Newer kernels also forbid TCP (6.7), device-specific ioctls (6.10), and signals and abstract sockets to outside
processes (6.12). On older kernels only the list of system calls forbids them.
"""

import ctypes
import os
import sys

from kernel import checked, libc  # type: ignore[import-not-found]  # beside this file, where the programs look

LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo")
FILES = ("/etc/ld.so.cache", "/etc/localtime")

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # on every architecture
READ_FILE, READ_DIR = 1 << 2, 1 << 3
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # number of rights by version; later versions have 16
NETWORK = 1 << 0 | 1 << 1  # bind and connect, TCP
SCOPES = 1 << 0 | 1 << 1  # abstract Unix sockets, signals


def version() -> int:
    """Return the kernel's version of Landlock. OSError if it has none."""
    result: int = libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    checked(result, "Landlock")
    return result


def rights(version: int) -> tuple[int, int, int]:
    """Return the rights to remove: on files, on the network, and the scopes outside of this process."""
    files = (1 << FILE_RIGHTS.get(version, 16)) - 1
    return files, NETWORK if version >= 4 else 0, SCOPES if version >= 6 else 0


def restrict(folder: str) -> None:
    """Allow only reading the folder and the library, as far as the kernel's version supports it. OSError on failure."""
    taken = (ctypes.c_uint64 * 3)(*rights(version()))
    rules = libc.syscall(CREATE_RULESET, ctypes.byref(taken), ctypes.c_size_t(ctypes.sizeof(taken)), 0)
    checked(rules, "Landlock's rules")
    for path in (folder, os.path.join(sys.base_prefix, "lib"), *LIBRARIES, *FILES):
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # not every system has them all
        allowed = READ_FILE | READ_DIR if os.path.isdir(path) else READ_FILE
        rule = allowed.to_bytes(8, sys.byteorder) + place.to_bytes(4, sys.byteorder)
        checked(libc.syscall(ADD_RULE, rules, 1, rule, 0), f"Landlock's rule for {path}")
        os.close(place)
    checked(libc.syscall(RESTRICT_SELF, rules, 0), "Landlock's restriction")
    os.close(rules)
