"""The end of a child in Redis: its claims go back to their queues, and its name and its records go."""

from collections.abc import Callable, Sequence

from jobs.worker import doormen, heartbeat, lanes
from jobs.worker.connection import Wire
from jobs.worker.process import Process
from jobs.worker.recovery import Held, recover


class Settling:
    """
    Settles each child once it is gone, and with it those that the server did not answer or refused before. A burst
    starts a child for that: nobody else looks at the claims of the one before for thirty seconds.
    """

    def __init__(
        self,
        wire: Wire,
        queues: Sequence[str],
        report: Callable[[str, list[Held], list[Held]], object],
        forget: Callable[[str], object],
    ) -> None:
        """`report(queue, given back, dead)` is called with what `recover` returns, `forget(name)` for each child."""
        self._wire, self._queues, self._report, self._forget = wire, queues, report, forget
        self._left: list[Process] = []

    @property
    def is_done(self) -> bool:
        """Whether each child that is gone is settled."""
        return not self._left

    def settle(self, process: Process) -> None:
        """
        Give back a child's claims, and unregister it. Claims not begun do not count as interrupted; ended ones are not
        suspect. Raises redis-py's errors; then it is tried again with the next child.
        """
        left, self._left = self._left, [*self._left, process]
        for each in left:
            # Once its record is gone its name may be another worker's, and the claims in that name with it.
            if heartbeat.is_recorded(self._wire, each.name, each.born):
                self._settle(each)
            self._left.remove(each)
        self._settle(process)
        self._left.remove(process)

    def _settle(self, process: Process) -> None:
        begun, suspects = process.board.begun(), process.suspects()
        for queue in self._queues:
            self._report(queue, *recover(self._wire, queue, only=process.name, begun=begun, suspects=suspects))
        lanes.free(self._wire, process.name)
        doormen.vacate(self._wire, process.name, self._queues)
        self._forget(process.name)
        heartbeat.unregister(self._wire, process.name, self._queues)
