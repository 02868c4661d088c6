"""Chooses how a claim is run: a command by the engine, a plain RQ job by RQ's code; each in a span if traced."""

from jobs import execution
from jobs.attempts.claim import Claim
from jobs.attempts.interrupt import Interruptible
from jobs.attempts.outcomes import Ended, MakeAttempt
from jobs.client import tracing
from jobs.worker.loop import MakeTask
from jobs.worker.rq_interrupts import Allow
from jobs.worker.rq_jobs import PlainRunner
from jobs.worker.tracing import traced, traced_on_loop


def maker(worker: str, allow: Allow) -> MakeAttempt:
    """
    Return the function with which the threads of this worker run their claims.

    `allow(claim, seconds)` sets how long a claim may run from now on: a callback has a limit of its own, and an outcome
    that has to wait for the server has none (None).
    """

    def make(claim: Claim, thread: Interruptible) -> Ended:
        if not claim.is_plain:
            return execution.attempt(claim, thread)
        return PlainRunner.run(worker, claim, thread, allow)

    return traced(make) if tracing.is_on else make


def task_maker() -> MakeTask:
    """Return the function with which the event loop of this worker runs its claims."""
    return traced_on_loop(execution.attempt_on_loop) if tracing.is_on else execution.attempt_on_loop
