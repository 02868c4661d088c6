"""The duties of a parent that need the server, each tried by itself."""

from collections.abc import Callable

from redis.exceptions import RedisError

from jobs.safe_logging import safe_logger
from jobs.worker.connection import UNREACHABLE, Wire
from jobs.worker.health import Health
from jobs.worker.supervision import Supervision

logger = safe_logger("jobs.worker")


class Duties:
    """
    One that fails keeps no other from being done, and no child from its work. Each failure is logged when it begins.
    """

    def __init__(self, wire: Wire, health: Health, supervision: Supervision) -> None:
        self._wire, self._health, self._supervision = wire, health, supervision
        self._away = False  # whether the server does not answer, or refuses what it is asked
        self._wire_answers = True
        self._failing: set[str] = set()  # errors of duties that were logged

    def all(self, *duties: Callable[[], object]) -> None:
        """Try each; none after one that the server did not answer, since each would wait as long."""
        for duty in duties:
            if not self.one(duty) and not self._wire_answers:
                return

    def one(self, duty: Callable[[], object]) -> bool:
        """Whether it was done. Without the server the children go on with what they run, and so do we."""
        self._supervision.serve()  # one duty may take seconds while the server hangs, all of them too many
        self._wire_answers = True
        try:
            duty()
        except (*UNREACHABLE, RedisError) as error:
            if "WRONGTYPE" in str(error):  # the server is well
                return self._log(error)
            self._wire_answers = not isinstance(error, UNREACHABLE)
            self._health.unanswered()
            self._wire.close()
            if not self._away:
                logger.warning("no answer from Redis: %s", error)
            self._away = True
            return False
        except Exception as error:  # whatever lies in the server must not end the parent
            return self._log(error)
        self._health.answered()
        if self._away:
            logger.warning("Redis answers again")
        self._away = False
        return True

    def _log(self, error: Exception) -> bool:
        text = repr(error)
        if text not in self._failing and len(self._failing) < 100:
            self._failing.add(text)
            logger.error("a duty of the worker failed; it is tried again, and logged once: %s", text, exc_info=error)
        return False
