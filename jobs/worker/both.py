"""Taking work for threads and for an event loop: one step asks for jobs of both kinds, by number."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from jobs.attempts.claim import Claim
from jobs.worker.commit import Handed
from jobs.worker.fetch import Fetch
from jobs.worker.wanted import Wanted

REST = 5.0  # seconds that the loop's thread waits at the most, while another waits at the doorbell
AGAIN = 0.1  # seconds until a worker without room for what lies at the heads of its queues looks at them again


class FetchForBoth(Fetch):
    """
    A Fetch for threads and for the tasks of an event loop, which has a thread of its own here: `attend`. Whoever makes
    a step claims for both, and commits for both.
    """

    def __init__(self, *args: Any, tasks: int, start: Callable[[list[Claim]], object], **options: Any) -> None:
        """`tasks`: how many there may be at once. `start(claims)`: starts a task for each; any thread may call it."""
        super().__init__(*args, **options)
        self.is_late = False  # whether the loop does not answer: it gets nothing then
        self._most = tasks
        self._steps.start_tasks = start
        self._stirred = threading.Event()
        self._is_at_door = False  # whether the loop's thread waits at the doorbell

    def attend(self) -> None:
        """Commit what tasks have done, and claim for them, until this worker stops and the last task has ended."""
        while True:
            self._stirred.clear()
            if self._look(for_tasks=True):
                continue
            if self.stopping and not self._steps.tasks and not self.commits:
                return
            if self._wait:  # no answer: once this worker stops, `_look` waits no more
                self._stirred.wait(self._wait)
            elif not self.commits:
                self._rest()

    def stir(self) -> None:
        """A task has ended: have its outcome committed. Any thread may call it."""
        self._stirred.set()
        if self._is_at_door:
            self._doorbell.ring()

    def stop(self) -> None:
        super().stop()
        self._stirred.set()

    def _rest(self) -> None:
        """Wait until there is something to commit, or to claim. One thread waits at the doorbell for all."""
        if self.stopping or self._room(()).tasks == 0 or not self._at_the_door.acquire(blocking=False):
            self._stirred.wait(REST)
            return
        try:
            self._is_at_door = True
            if not self._stirred.is_set():
                self._wait_at_door()
        finally:
            self._is_at_door = False
            self._at_the_door.release()

    def _await_work(self) -> None:
        super()._await_work()
        self._stirred.set()  # the door is free, and the thread that was there may be busy now

    def _wait_at_door(self) -> None:
        if self._steps.has_left:  # the door would open at once, for jobs that find no room here
            self._doorbell.wait([], min(AGAIN, self._steps.until_due))
        else:
            super()._wait_at_door()

    @property
    def _has_idle(self) -> bool:
        room = self._room(())
        return room.threads > 0 or (room.tasks or 0) > 0

    def _room(self, outcomes: Sequence[Handed]) -> Wanted:
        tasks = self._steps.tasks
        done = sum(handed.claim.execution in tasks for handed in outcomes)
        held = len(self.held) - len(tasks) - (len(outcomes) - done)
        room = 0 if self.is_late else max(0, self._most - (len(tasks) - done))
        return self._wanted(held, room)
