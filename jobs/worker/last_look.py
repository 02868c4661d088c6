"""The last look of a burst: it ends once its queues have no job, and none is on its way into them."""

from collections.abc import Callable, Iterable, Sequence

from jobs.broker import keys
from jobs.worker.connection import Wire


class LastLook:
    """
    What a step cannot say. Its answer is empty, too, if the server refuses to write, or if all jobs that it looked at
    wait for limits; and what waited for a job that has ended is on its way while `jobs:releasing` has a member: of
    another thread, of the main thread, or of a step whose answer was lost.
    """

    def __init__(self, wire: Wire, release: Callable[[bytes], bool], *, burst: bool) -> None:
        """`release(member)` lets those go on that waited; False if the server did not answer."""
        self._wire, self._release, self._burst = wire, release, burst
        self._odd: set[bytes] = set()  # members that may stay after their release, as something in their keys is odd

    def look(self, queues: Sequence[str]) -> tuple[list[bytes], bool]:
        """
        Return what is to be released before the next look, and whether any of these queues has a job. In this order:
        who is released is in a queue before the member goes. Raises redis-py's errors.
        """
        members = self._wire.read("SMEMBERS", keys.RELEASING)
        self._odd.intersection_update(members)
        releasing = [member for member in members if member not in self._odd]
        return releasing, any(self._wire.read("LRANGE", keys.queue(name), 0, 0) for name in queues)

    def release(self, members: Iterable[bytes]) -> bool:
        """Release these. Returns whether a burst is to look again: who waited may be in a queue now."""
        is_any = False
        for member in members:
            is_any = self._burst
            if self._release(member) and self._burst:
                self._odd.add(member)
        return is_any
