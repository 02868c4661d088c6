"""How many jobs a step is to claim."""

from typing import NamedTuple

from jobs.broker.connections import Word


class Wanted(NamedTuple):
    """How many jobs a step is to claim: for threads, and for tasks of the event loop."""

    threads: int
    idle: int = 0  # threads that are idle: jobs with limits are claimed for these, and for tasks
    tasks: int | None = None  # None: there is no loop

    @property
    def total(self) -> int:
        return self.threads + (self.tasks or 0)

    @property
    def sure(self) -> int:
        """How many jobs for threads the step brings if the queues have as many, with limits or without."""
        return min(self.threads, self.idle) or self.threads

    @property
    def word(self) -> Word:
        return self.threads if self.tasks is None else f"{self.threads} {self.tasks}"

    def bounded(self, most: int | None) -> "Wanted":
        """Return the same, with no number below 0, and both together at most this many."""
        threads = max(0, self.threads if most is None else min(self.threads, most))
        idle = max(0, self.idle)
        if self.tasks is None:
            return Wanted(threads, idle)
        return Wanted(threads, idle, max(0, self.tasks if most is None else min(self.tasks, most - threads)))


NOTHING = Wanted(0)
