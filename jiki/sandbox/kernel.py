"""The C library, by which the standard library makes the kernel's calls that it has no functions for."""

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> None:
    """OSError with `what` and the kernel's reason, if the result of a call says that it failed."""
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
