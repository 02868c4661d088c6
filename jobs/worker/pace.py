"""How long the jobs of a worker take, and what follows: how many to claim at once, and whether one thread leads."""

from collections import deque

SHORT = 0.001  # seconds: while the usual attempt takes less, more jobs are claimed than threads are idle
QUICK = 0.0001  # seconds: while it takes less, the attempts wait for nothing, and one thread runs them best
LONG = 0.020  # seconds: a running job that takes longer must not hold claimed ones up
AT_ONCE = 0.002  # seconds of work to claim at once
LAST = 256  # attempts that count
SLOWEST = 16  # of so many attempts one does not count
ENOUGH = 32  # attempts before anything follows from them


class Pace:
    """That of one worker. Its threads `add` the attempts that have ended; its main thread judges."""

    def __init__(self, most: int) -> None:
        """`most`: the largest batch, of `JOBS["BATCH"]`."""
        self.batch = 1  # jobs to have in hand; 1: one for each idle thread
        self.is_short = False  # whether the usual attempt takes less than SHORT
        self.is_quick = False  # whether it takes less than QUICK
        self._most = most
        self._last: deque[float] = deque(maxlen=LAST)
        self.add = self._last.append  # the seconds of an attempt that has ended; any thread may call it

    def judge(self, longest: float = 0.0) -> None:
        """
        Judge by the last attempts, without the slowest of them (a machine that is busy, one job in a hundred), and by
        the attempt that has been running longest: so many seconds up to now.
        """
        mean = SHORT
        if len(self._last) >= ENOUGH and longest < LONG:
            usual = sorted(self._last)
            del usual[len(usual) - len(usual) // SLOWEST :]
            mean = sum(usual) / len(usual)
        self.is_short, self.is_quick = mean < SHORT, mean < QUICK
        self.batch = max(1, min(self._most, int(AT_ONCE / mean))) if self.is_short else 1
