"""
The filter of system calls, built from `syscalls.ALLOWED` and `arguments.ARGUMENTS`; the kernel runs it at each call.

Other calls fail with EPERM. A call of another architecture (for example of 32-bit code) kills the process.
"""

import ctypes
import os
import sys

import arguments  # type: ignore[import-not-found]  # beside this file, where the programs look
import syscalls  # type: ignore[import-not-found]
from kernel import checked, libc  # type: ignore[import-not-found]

PR_SET_SECCOMP, FILTER = 22, 2
LOAD, AND, JUMP, JUMP_IF_EQUAL, RETURN = 0x20, 0x54, 0x05, 0x15, 0x06
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000 | 1, 0x80000000  # 1 is EPERM
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # their offsets in the kernel's seccomp_data
ALL_BITS = 0xFFFFFFFF

Line = tuple[int, int, int, int]  # operation, lines to skip if true, lines to skip if false, value


def restrict() -> None:
    """Install the filter. OSError if the kernel does not support it."""
    lines = program(os.uname().machine)
    code = b"".join(
        op.to_bytes(2, sys.byteorder) + bytes([then, other]) + value.to_bytes(4, sys.byteorder)
        for op, then, other, value in lines
    )
    held = ctypes.create_string_buffer(code)
    filter = (ctypes.c_uint64 * 2)(len(lines), ctypes.addressof(held))  # the length has 16 bits, and padding
    checked(libc.prctl(PR_SET_SECCOMP, FILTER, ctypes.byref(filter), 0, 0), "seccomp")


def program(machine: str) -> list[Line]:
    """Return the filter's lines for a machine. OSError if its system calls are not listed."""
    architecture, allowed = syscalls.numbers(machine)
    plain = [number for name, number in allowed.items() if name not in arguments.ARGUMENTS]
    examined = [(number, arguments.ARGUMENTS[name]) for name, number in allowed.items() if number not in plain]
    last = [line for number, ways in examined for line in _call(number, ways)] + [(RETURN, 0, 0, REFUSE)]
    return [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_IF_EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        # Jumps are counted from the next line. After these lines, one line continues and one allows.
        *((JUMP_IF_EQUAL, len(plain) - line, 0, number) for line, number in enumerate(plain)),
        (JUMP, 0, 0, 1),
        (RETURN, 0, 0, ALLOW),
        *last,
    ]


def _call(number: int, ways: list[list[arguments.Condition]]) -> list[Line]:
    """Return the lines that allow or refuse the call `number`; for other calls they jump behind themselves."""
    lines = [line for way in ways for line in _way(way)] + [(RETURN, 0, 0, REFUSE)]
    return [(JUMP_IF_EQUAL, 0, len(lines), number), *lines]


def _way(conditions: list[arguments.Condition]) -> list[Line]:
    """Return the lines that allow the call if all conditions hold, and otherwise jump behind themselves."""
    lines: list[Line] = [(RETURN, 0, 0, ALLOW)]
    for word, values, ignored in reversed(conditions):
        lines = [
            (LOAD, 0, 0, ARGUMENTS + 4 * word),
            (AND, 0, 0, ALL_BITS & ~ignored),
            *((JUMP_IF_EQUAL, len(values) - line, 0, value) for line, value in enumerate(values)),
            (JUMP, 0, 0, len(lines)),
            *lines,
        ]
    return lines
