"""
Recognizes the same error in many jobs: by its class, the innermost frame of the project's own code, and its message
without numbers.
"""

import hashlib
import re
import sysconfig
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType

from jobs.record import display

MESSAGE_LENGTH = 200  # characters
FRAMES = 1_000  # looked at, from the outermost on

_NUMBERS = re.compile(
    r"0x[0-9a-fA-F]+|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b(?=[0-9a-f]*\d)[0-9a-f]{12,}\b|\d+"
)
_STANDARD = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is alike in the same errors. `frame`: `<module>:<function>`, or "" if none of the frames can be read."""

    error: str  # the class's name
    frame: str
    message: str

    @property
    def id(self) -> str:
        """12 hexadecimal digits."""
        parts = "\0".join((self.error, self.frame, self.message)).encode(errors="replace")
        return hashlib.sha1(parts, usedforsecurity=False).hexdigest()[:12]


def of(error: BaseException, reason: str) -> Fingerprint:
    """Return the fingerprint of an error. `reason`: its class and message, as its job shows them."""
    name, _, message = reason.partition(": ")
    return Fingerprint(name, own_frame(error.__traceback__), without_numbers(message))


def without_numbers(message: str) -> str:
    """Return the first line of a message with `N` in the place of each number, address and id, as it may be shown."""
    lines = display.text(message[: 5 * MESSAGE_LENGTH]).strip().splitlines()
    return _NUMBERS.sub("N", lines[0])[:MESSAGE_LENGTH] if lines else ""


def own_frame(traceback: TracebackType | None) -> str:
    """Return the innermost frame of the project's code; without one, the innermost of all, outside this package."""
    own = other = ""
    for _ in range(FRAMES):
        if traceback is None:
            break
        code = traceback.tb_frame.f_code
        module = str(traceback.tb_frame.f_globals.get("__name__", ""))
        if module != "jobs" and not module.startswith("jobs."):
            other = f"{module}:{code.co_qualname}"
            own = other if _is_own(code.co_filename) else own
        traceback = traceback.tb_next
    return own or other


@lru_cache(10_000)
def _is_own(path: str) -> bool:
    if "site-packages" in path or "dist-packages" in path or path.startswith("<"):
        return False
    return not path.startswith(_STANDARD)
