"""Plain RQ jobs and their callbacks as our threads run them: they can be interrupted, and have RQ's time limits."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from inspect import iscoroutinefunction
from typing import Any

from rq.timeouts import BaseDeathPenalty, JobTimeoutException

from jobs.attempts.claim import Claim
from jobs.attempts.interrupt import Interruptible, TimedOut
from jobs.job import MandateJob

Allow = Callable[[Claim, float | None], object]


class PlainJob(MandateJob):
    """A plain job that this worker runs. Its function and its callbacks can be interrupted."""

    interruptible: Callable[[Callable[..., Any]], Callable[..., Any]]

    def _execute(self) -> Any:
        return self.interruptible(self.func)(*self.args, **self.kwargs)

    @property
    def success_callback(self) -> Any:
        return self._wrapped(super().success_callback)

    @property
    def failure_callback(self) -> Any:
        return self._wrapped(super().failure_callback)

    @property
    def stopped_callback(self) -> Any:
        return self._wrapped(super().stopped_callback)

    def _wrapped(self, callback: Any) -> Any:
        if callback is None or iscoroutinefunction(callback):  # RQ refuses the latter
            return callback
        return self.interruptible(callback)


def interruptible(claim: Claim, thread: Interruptible) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Wrap a function of the job, plain or `async def`, so that it can be interrupted."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            seconds = claim.deadline - time.monotonic()
            try:
                result = thread.run(claim, partial(function, *args, **kwargs))
                if asyncio.iscoroutine(result):
                    result = thread.run_in_loop(claim, lambda: result)
            except TimedOut as error:
                text = f"Task exceeded maximum timeout value ({seconds:.0f} seconds)"  # as RQ's own
                raise JobTimeoutException(text) from error
            return result

        return call

    return wrap


def penalty(claim: Claim, allow: Allow) -> type[BaseDeathPenalty]:
    class Limit(BaseDeathPenalty):
        """
        Passes the time limit that RQ's code sets for a job or a callback to our main thread, which interrupts it; in
        place of SIGALRM, which only a main thread can handle.
        """

        def setup_death_penalty(self) -> None:
            allow(claim, self._timeout)

        def cancel_death_penalty(self) -> None:
            allow(claim, None)

    return Limit
