"""What becomes of each job follows from its arguments."""

import logging
import time

from jobs import Concurrency, Mandate, RetryOn
from users.models import User

logger = logging.getLogger("courses")


class SandboxError(Exception):
    """The place where learners' programs run did not do its work."""


class RateLimitedError(Exception):
    """Somebody else's service had enough of us."""


class WithdrawnError(Exception):
    """What was asked for is given no more."""


class RunSubmission(Mandate):
    queue = "critical"
    retry_on = [RetryOn(SandboxError, wait=0, attempts=3)]
    keep_log = True
    user: User
    exercise: str

    def call(self) -> str:
        logger.warning("running the tests of %s", self.exercise)
        if self.exercise.startswith("maze"):
            raise SandboxError(f"no answer within 10 s, while running the tests of {self.exercise}")
        return "passed"


class SyncTrack(Mandate):
    """Fails for tracks that do not exist, and is tried again later where there are too many requests."""

    queue = "background"
    retries = 0
    retry_on = [RetryOn(RateLimitedError, wait=900, attempts=5)]
    track: str

    def call(self) -> None:
        if self.track == "rust":
            raise RateLimitedError("429 Too Many Requests; the limit is reset at the full hour")
        if self.track not in {"python", "javascript", "ruby"}:
            raise LookupError(f"there is no track named {self.track!r}")


class RenderVideo(Mandate):
    """Takes its time: until it is cancelled, or ten minutes. One of a quality at a time."""

    timeout = None
    limits = [Concurrency(1, key="quality")]
    lesson: str
    quality: str = "1080p"

    def call(self) -> None:
        for _ in range(60_000):
            time.sleep(0.01)


class AwardBadge(Mandate):
    discard_on = [WithdrawnError]
    user: User
    badge: str

    def call(self) -> None:
        if self.badge == "early bird":
            raise WithdrawnError(f"nobody gets the badge {self.badge!r} any more")


class ExportProgress(Mandate):
    queue = "low"
    user: User
    format: str = "csv"

    def call(self) -> None: ...


class RefreshStatistics(Mandate):
    queue = "background"

    def call(self) -> None: ...
