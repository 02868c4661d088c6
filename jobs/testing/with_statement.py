"""Detects whether a call is the context expression of a `with`, where an assertion applies to the block."""

import dis
import sys
from types import FrameType


def caller() -> FrameType:
    """Return the frame that called the function that calls this one."""
    return sys._getframe(2)


def is_entered(frame: FrameType) -> bool:
    """
    Whether the call that this frame is making stands in a `with`, so that its result is entered next.

    Read from the frame's code: the instruction after a call in a `with` enters the context manager (BEFORE_WITH up to
    Python 3.13; from 3.14 on a copy of the manager, to look up its methods).
    """
    following = (i for i in dis.get_instructions(frame.f_code) if i.offset > frame.f_lasti and i.opname != "CACHE")
    first, second = next(following, None), next(following, None)
    if first is None:
        return False
    return first.opname == "BEFORE_WITH" or (
        first.opname == "COPY" and second is not None and second.opname == "LOAD_SPECIAL"
    )
