"""The doctor's findings."""

import shlex
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

from jobs.safe_logging import in_a_line

NAMED = 5  # workers, or machines, that a finding names


class Severity(IntEnum):
    """The severity; the command's exit status is the highest one."""

    NOTE = 0
    WARNING = 1
    ERROR = 2


def some(number: int, one: str, more: str) -> str:
    """Return the number with its words, as in `some(2, "worker runs", "workers run")`."""
    return f"{number:,} {one if number == 1 else more}"


def first_of(names: Iterable[str]) -> str:
    """Return the first names as a text: a cause that many workers have in common is one finding."""
    listed = list(names)
    return ", ".join(listed[:NAMED]) + (", ..." if len(listed) > NAMED else "")


def shell(*words: str) -> str:
    """Return these words as a line for a shell. Names from Redis are among them, and somebody pastes the line."""
    return shlex.join(map(in_a_line, words))


def manage(*words: str) -> str:
    """Return the line of `shell` that runs a command of manage.py."""
    return shell("python", "manage.py", *words)


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
