"""The outcomes of an attempt. `execution` decides on one; `worker.commit` and the testing kit write it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from jobs.attempts.claim import Claim
from jobs.attempts.interrupt import Interruptible
from jobs.retries import Progress


@dataclass(frozen=True, slots=True)
class Finished:
    """
    Done. `result` is the return value as JSON (None: no result), kept for `ttl` seconds (0: the job is deleted), with
    `log`, the lines that `call` logged, if the command asks for them.
    """

    result: bytes | None
    ttl: int
    log: str = ""


@dataclass(frozen=True, slots=True)
class Committed(Finished):
    """Done, by an atomic command: the database says so, even if the job was cancelled meanwhile."""


@dataclass(frozen=True, slots=True)
class Retried:
    """Failed, and tried again after `delay` seconds."""

    delay: float
    reason: str
    traceback: str
    progress: Progress
    log: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Requeued:
    """Ended by the command itself, and run again after `delay` seconds. Not a failure."""

    delay: float
    progress: Progress


@dataclass(frozen=True, slots=True)
class LeftOff:
    """Ended at a checkpoint, and goes on from there: at the head of its queue, or at the tail. Not a failure."""

    reason: str
    at_tail: bool = False


@dataclass(frozen=True, slots=True)
class SlowedDown:
    """Ended by the command itself: these of its limits, by their numbers from 1, admit nothing for `seconds`."""

    seconds: float
    numbers: tuple[int, ...]
    progress: Progress


@dataclass(frozen=True, slots=True)
class Postponed:
    """Could not begin yet, for that reason, and tried again after `delay` seconds. Not a failure: nothing was run."""

    delay: float
    reason: str
    progress: Progress


@dataclass(frozen=True, slots=True)
class Waiting:
    """Its prerequisites are not done: waits again until the last of them is."""


@dataclass(frozen=True, slots=True)
class Dead:
    """Failed for good, at that attempt, and kept for inspection."""

    reason: str
    traceback: str
    log: str = ""
    attempt: int = 1
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Discarded:
    """Dropped on purpose, and still listed. `expired`: because it was not begun in time."""

    reason: str
    expired: bool = False


@dataclass(frozen=True, slots=True)
class GivenBack:
    """Claimed, but not begun: returned to the head of its queue, as if it had never been taken."""


@dataclass(frozen=True, slots=True)
class Amended:
    """Claimed, but its record differs from what its command is in this release: written, and handed back, not begun."""

    fields: tuple[Any, ...]  # names and values, alternating


@dataclass(frozen=True, slots=True)
class Recorded:
    """A plain RQ job: RQ's own code has already written its outcome."""

    finished: bool


Outcome = (
    Finished
    | Retried
    | Requeued
    | SlowedDown
    | LeftOff
    | Postponed
    | Waiting
    | Dead
    | Discarded
    | GivenBack
    | Amended
    | Recorded
)


class Ended(NamedTuple):
    """An attempt's outcome, and the name of the command or function that it ran."""

    outcome: Outcome
    command: str


MakeAttempt = Callable[[Claim, Interruptible], Ended]  # runs a claim in the calling thread; raises nothing
