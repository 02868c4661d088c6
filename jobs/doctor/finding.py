"""What the doctor tells."""

from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any


class Severity(IntEnum):
    """How bad: the command's exit status is the worst one's."""

    NOTE = 0
    WARNING = 1
    ERROR = 2


def some(number: int, one: str, more: str) -> str:
    """Such as `some(2, "worker runs", "workers run")`."""
    return f"{number:,} {one if number == 1 else more}"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong: what, why it matters, and the command, or the step, that mends it."""

    severity: Severity
    what: str
    why: str
    mend: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "severity": self.severity.name.lower()}
