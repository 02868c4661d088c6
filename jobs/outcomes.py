"""What one attempt can end as. `execution` decides, `worker.commit` and the testing kit carry it out."""

from dataclasses import dataclass


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
class Dead:
    """Failed for good, and kept for a person to look at."""

    reason: str
    traceback: str
    log: str = ""


@dataclass(frozen=True, slots=True)
class Discarded:
    """Dropped on purpose, visibly."""

    reason: str


@dataclass(frozen=True, slots=True)
class GivenBack:
    """Claimed, but not begun: back to the head of its queue, as if it had never been taken."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Ended as RQ's own code decided and has already written: a plain RQ job."""

    finished: bool


Outcome = Finished | Dead | Discarded | GivenBack | Recorded
