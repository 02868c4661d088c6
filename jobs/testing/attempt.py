"""Makes one attempt as a worker's thread does: without the test's context, and outside the test's transaction."""

import time
from contextlib import ExitStack

from django.db import connections

from jobs import execution
from jobs.attempts.claim import Claim
from jobs.attempts.interrupt import Interruptible
from jobs.attempts.outcomes import Ended, Outcome
from jobs.testing import patches
from jobs.testing.connections import as_found
from jobs.worker.surroundings import new_context


def make(claim: Claim) -> tuple[Outcome, str, float]:
    """Run a claimed command. Returns its outcome, the command's name, and the duration in seconds."""
    with ExitStack() as stack:
        for connection in connections.all(initialized_only=True):
            stack.enter_context(as_found(connection))
        claim.started = begun = time.monotonic()
        outcome, command = new_context().run(_attempt, patches.current(), claim)
        return outcome, command, time.monotonic() - begun


def _attempt(kit: patches.OpenKit, claim: Claim) -> Ended:
    with patches.showing(kit):
        return execution.attempt(claim, Interruptible())
