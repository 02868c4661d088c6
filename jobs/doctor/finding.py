"""The doctor's findings."""

from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any


class Severity(IntEnum):
    """The severity; the command's exit status is the highest one."""

    NOTE = 0
    WARNING = 1
    ERROR = 2


def some(number: int, one: str, more: str) -> str:
    """Return the number with its words, as in `some(2, "worker runs", "workers run")`."""
    return f"{number:,} {one if number == 1 else more}"


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem: what is wrong, why it matters, and the command or the step that mends it."""

    severity: Severity
    what: str
    why: str
    mend: str

    def as_dict(self) -> dict[str, Any]:
        """Return the finding for JSON."""
        return {**asdict(self), "severity": self.severity.name.lower()}
