"""How far a job has come in its steps: the JSON in the field `steps` of its record."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from jobs.errors import StepError

RESULT = "step:"  # the field of a step's result is `step:<number>`, counted from 0


class Yielded(BaseException):
    """
    Raised at a checkpoint: the attempt ends there, and the job goes on from there later. A BaseException, so that
    `except Exception` in a command cannot swallow it. With `at_tail`, the job goes to the tail of its queue.
    """

    def __init__(self, reason: str, *, at_tail: bool = False, is_refused: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.at_tail, self.is_refused = reason, at_tail, is_refused


@dataclass(slots=True)
class Ended:
    """A step that has ended. Times are seconds since the epoch. `has_result`: a field of its own has the result."""

    name: str
    began: float
    ended: float
    has_result: bool = False
    done: int = 0  # items, of a loop


@dataclass(slots=True)
class Current:
    """
    The step that runs, or ran last. `kind` says what the cursor counts: "step" (the function's own cursor), "count"
    (items of an iterable), or "by <field>" (keys of a queryset). `cursor` is in the form of an argument.
    """

    name: str
    kind: str
    began: float
    cursor: Any = None
    done: int = 0
    total: int | None = None


@dataclass(slots=True)
class State:
    """
    The steps of one job. `at` is when it was last written (seconds since the epoch), `resumed` how often the job went
    on from a checkpoint. `life` counts how often a person had steps done anew: each life has its own rows of `Cursor`.
    """

    ended: list[Ended] = field(default_factory=list)
    current: Current | None = None
    at: float = 0.0
    resumed: int = 0
    life: int = 0
    slow: dict[str, int] = field(default_factory=dict)  # steps with a long time without a checkpoint: its seconds

    @classmethod
    def load(cls, text: bytes | str) -> "State":
        """Read the field of a record. Raises StepError for a text that `dump` has not written."""
        if not text:
            return cls()
        try:
            fields = orjson.loads(text)
            ended = [Ended(*each) for each in fields["ended"]]
            current = Current(**fields["current"]) if fields.get("current") else None
            state = cls(ended, current, float(fields["at"]), int(fields["resumed"]), int(fields["life"]))
            state.slow = {str(name): int(seconds) for name, seconds in fields.get("slow", {}).items()}
            names = [each.name for each in ended] + ([current.name] if current else [])
            if not all(type(name) is str for name in names):
                raise TypeError(names)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StepError(
                f"The field `steps` of the job's record cannot be read: {text[:100]!r}. Begin the job anew."
            ) from error
        return state

    def dump(self) -> str:
        """Return the text of the record's field."""
        fields: dict[str, Any] = {
            "ended": [[each.name, each.began, each.ended, each.has_result, each.done] for each in self.ended],
            "current": None if self.current is None else asdict(self.current),
            "at": self.at,
            "resumed": self.resumed,
            "life": self.life,
        }
        if self.slow:
            fields["slow"] = self.slow
        return orjson.dumps(fields).decode()

    def rename(self, names: Mapping[str, str]) -> None:
        """Give the steps of an earlier release the names that they have in this one."""
        for each in self.ended:
            each.name = names.get(each.name, each.name)
        if self.current is not None:
            self.current.name = names.get(self.current.name, self.current.name)

    def without(self, step: str = "") -> "State":
        """
        Return the state in which that step, and all after it, are to be done anew; every step if it is "". Raises
        StepError for a step that has not begun.
        """
        names = [each.name for each in self.ended] + ([self.current.name] if self.current else [])
        if step and step not in names:
            known = ", ".join(names) or "none"
            raise StepError(f"The job has no step {step!r}. Its steps so far: {known}.")
        kept = self.ended[: names.index(step)] if step else []
        return State(kept, None, self.at, self.resumed, self.life + 1)
