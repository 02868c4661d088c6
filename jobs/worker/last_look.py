"""The last look of a burst: it ends once its queues have no job, and none is on its way into them."""

from collections.abc import Callable, Iterable, Sequence

from jobs.broker import keys
from jobs.worker.connection import Wire


class LastLook:
    """
    What a step cannot say. Its answer is empty, too, if the server refuses to write, or if all jobs that it looked at
    wait for limits; and what waited for a job that has ended is on its way while a thread of this process releases it,
    or if the answer with the member of `jobs:releasing` was lost. The releases of other workers are their own.
    """

    def __init__(self, wire: Wire, release: Callable[[bytes], bool]) -> None:
        """`release(member)` lets those go on that waited; False if the server did not answer."""
        self._wire, self._release = wire, release
        self._releasing: list[bytes] = []  # what threads of this process are releasing now
        self.is_in_doubt = False  # whether an answer was lost

    def look(self, queues: Sequence[str], end: Callable[[], object]) -> list[bytes]:
        """
        Call `end` if none of these queues has a job, or may get one. Returns what a lost answer may have left to be
        released. Raises redis-py's errors.
        """
        lost = self._wire.read("SMEMBERS", keys.RELEASING) if self.is_in_doubt else []
        is_releasing, self.is_in_doubt = bool(self._releasing), False  # before the queues: there is where they go
        has_jobs = any(self._wire.read("LRANGE", keys.queue(name), 0, 0) for name in queues)
        if not (lost or is_releasing or has_jobs):
            end()
        return lost

    def begin(self, members: Iterable[bytes]) -> None:
        """Note what is to be released. Call it before another thread can look."""
        self._releasing.extend(members)

    def release(self, members: Iterable[bytes]) -> None:
        """Release what was noted."""
        for member in members:
            if not self._release(member):
                self.is_in_doubt = True
            self._releasing.remove(member)
