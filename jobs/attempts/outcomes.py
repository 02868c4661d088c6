"""What one attempt can end as. `execution` decides, `worker.commit` and the testing kit carry it out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from jobs.attempts.claim import Claim
from jobs.attempts.interrupt import Interruptible
from jobs.retries import Progress


@dataclass(frozen=True, slots=True)
class Finished:
    """
    Done. `result` is the return value as JSON (None: nothing), kept `ttl` seconds (0: the job is forgotten), and with
    it `log`, what `call` logged, where the command asks for that.
    """

    result: bytes | None
    ttl: int
    log: str = ""


@dataclass(frozen=True, slots=True)
class Retried:
    """Failed, and to be tried again after `delay` seconds."""

    delay: float
    reason: str
    traceback: str
    progress: Progress
    log: str = ""


@dataclass(frozen=True, slots=True)
class Requeued:
    """Stopped by the command itself, to be run again after `delay` seconds. No failure."""

    delay: float
    progress: Progress


@dataclass(frozen=True, slots=True)
class Postponed:
    """Could not begin yet, for that reason: looked at again after `delay` seconds. No failure, nothing was run."""

    delay: float
    reason: str
    progress: Progress


@dataclass(frozen=True, slots=True)
class Waiting:
    """Its prerequisites are not done: back to waiting, until the last of them is."""


@dataclass(frozen=True, slots=True)
class Dead:
    """Failed for good, at that attempt, and kept for a person to look at."""

    reason: str
    traceback: str
    log: str = ""
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Discarded:
    """Dropped on purpose, visibly. `expired`: because it was not begun in time."""

    reason: str
    expired: bool = False


@dataclass(frozen=True, slots=True)
class GivenBack:
    """Claimed, but not begun: back to the head of its queue, as if it had never been taken."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Ended as RQ's own code decided and has already written: a plain RQ job."""

    finished: bool


Outcome = Finished | Retried | Requeued | Postponed | Waiting | Dead | Discarded | GivenBack | Recorded


class Ended(NamedTuple):
    """What an attempt ended as, and the command or function that it ran, by name."""

    outcome: Outcome
    command: str


MakeAttempt = Callable[[Claim, Interruptible], Ended]  # runs a claim in the calling thread; raises nothing
