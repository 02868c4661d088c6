"""
The allowed arguments of system calls that could do more than they are allowed for.

A call has a list of ways, one of which must match. A way is a list of conditions, all of which must hold. The numbers
are those of the kernel's headers; they are the same on x86-64 and on ARM64 unless a comment says otherwise.
"""

from typing import NamedTuple


class Condition(NamedTuple):
    """Four bytes of the arguments, without the ignored bits, must be one of the values."""

    word: int  # an argument is two words: the lower one first
    values: tuple[int, ...]
    ignored: int = 0


def among(argument: int, *values: int, ignored: int = 0) -> Condition:
    """The argument must be one of the values; the kernel uses 32 bits of it, so only these are compared."""
    return Condition(2 * argument, values, ignored)


def only(argument: int, bits: int) -> Condition:
    """The argument must have no other bits than these."""
    return among(argument, 0, ignored=bits)


def nothing(argument: int) -> list[Condition]:
    """The argument must be a null pointer: 64 bits."""
    return [Condition(2 * argument, (0,)), Condition(2 * argument + 1, (0,))]


# Files: O_CLOEXEC, O_NONBLOCK, O_NOCTTY, O_NOATIME, O_PATH; and O_DIRECTORY, O_NOFOLLOW, O_LARGEFILE and O_DIRECT,
# whose four bits differ in order by architecture. So nothing that writes, creates, truncates or sends signals.
READING = 0o2000000 | 0o4000 | 0o400 | 0o1000000 | 0o10000000 | 0o740000
OWN_FLAGS = 0o3 | 0o2000 | 0o4000 | 0o500000  # O_ACCMODE, O_APPEND, O_NONBLOCK, O_LARGEFILE on either: no O_ASYNC
PIPE_FLAGS = 0o2000000 | 0o4000  # O_CLOEXEC and O_NONBLOCK, as SOCK_CLOEXEC and SOCK_NONBLOCK are
# F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL: no owner, signal, lease, lock, notice or size of a pipe.
OF_DESCRIPTORS = (0, 1030, 1, 2, 3)
F_SETFL = 4
# TCGETS, TCGETS2, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX: no owner, no signals, no input for a terminal.
OF_STREAMS = (0x5401, 0x802C542A, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
AF_UNIX, SOCK_STREAM = 1, 1
SENDING = 0x40 | 0x4000  # MSG_DONTWAIT, MSG_NOSIGNAL: nothing out of band, which sends a signal
RECEIVING = 0x40 | 0x2 | 0x20 | 0x100  # MSG_DONTWAIT, MSG_PEEK, MSG_TRUNC, MSG_WAITALL
# FUTEX_WAIT, _WAKE, _REQUEUE, _CMP_REQUEUE, _WAKE_OP, _WAIT_BITSET, _WAKE_BITSET: no locks that lend a priority.
WAITING, WAITING_FLAGS = (0, 1, 3, 4, 5, 9, 10), 0x80 | 0x100  # FUTEX_PRIVATE_FLAG, FUTEX_CLOCK_REALTIME
# All but MAP_LOCKED, MAP_HUGETLB and MAP_GROWSDOWN, which take memory from others, or grow by themselves.
MAPPING = 0x1 | 0x2 | 0x10 | 0x20 | 0x40 | 0x800 | 0x1000 | 0x4000 | 0x8000 | 0x20000 | 0x100000
ADVICE = (
    0,
    1,
    2,
    3,
    4,
    8,
    14,
    15,
)  # MADV_NORMAL to _DONTNEED, _FREE, _HUGEPAGE, _NOHUGEPAGE: nothing shared, no faults
CLOCKS = 0xF  # the system's; the clocks of other processes are negative numbers

ARGUMENTS: dict[str, list[list[Condition]]] = {
    "clock_getres": [[only(0, CLOCKS)]],
    "clock_gettime": [[only(0, CLOCKS)]],
    "clock_nanosleep": [[only(0, CLOCKS)]],
    "fcntl": [[among(1, *OF_DESCRIPTORS)], [among(1, F_SETFL), only(2, OWN_FLAGS)]],
    "futex": [[among(1, *WAITING, ignored=WAITING_FLAGS)]],
    "getpgid": [[among(0, 0)]],
    "getsid": [[among(0, 0)]],
    "ioctl": [[among(1, *OF_STREAMS)]],
    "madvise": [[among(2, *ADVICE)]],
    "mmap": [[only(3, MAPPING)]],
    "open": [[only(1, READING)]],
    "openat": [[only(2, READING)]],
    "pipe2": [[only(1, PIPE_FLAGS)]],
    "recvfrom": [[only(3, RECEIVING)]],
    "sched_getaffinity": [[among(0, 0)]],
    "sendto": [[only(3, SENDING), *nothing(4)]],
    "socketpair": [[among(0, AF_UNIX), among(1, SOCK_STREAM, ignored=PIPE_FLAGS), among(2, 0)]],
}
