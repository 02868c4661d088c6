"""Whether a call stands in a `with`: what is an assertion as a call looks at its block there."""

import dis
import sys
from types import FrameType


def caller() -> FrameType:
    """The frame that has called the function which asks."""
    return sys._getframe(2)


def is_entered(frame: FrameType) -> bool:
    """
    Whether the call that this frame is making stands in a `with`, so that what it returns is entered next.

    Read from the frame's code: what comes after a call in a `with` is the entering (BEFORE_WITH up to Python 3.13; from
    3.14 on a copy of the manager, to look its methods up).
    """
    following = (i for i in dis.get_instructions(frame.f_code) if i.offset > frame.f_lasti and i.opname != "CACHE")
    first, second = next(following, None), next(following, None)
    if first is None:
        return False
    return first.opname == "BEFORE_WITH" or (
        first.opname == "COPY" and second is not None and second.opname == "LOAD_SPECIAL"
    )
