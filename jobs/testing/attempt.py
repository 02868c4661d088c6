"""One attempt, as the thread of a worker makes it: nothing of the test's context, and no transaction of the test's."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import Context
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, connections

from jobs import execution
from jobs.interrupt import Interruptible
from jobs.outcomes import Outcome
from jobs.testing import stage
from jobs.worker.claim import Claim

if TYPE_CHECKING:
    from jobs.testing.performing import Performer


def make(claim: Claim) -> tuple[Outcome, str, float]:
    """Run a claimed command. Returns what it ended as, the command's name, and the seconds that it took."""
    with ExitStack() as stack:
        for connection in connections.all(initialized_only=True):
            if stage.is_test_transaction(connection) and not connection.needs_rollback:
                stack.enter_context(_usable_after(connection))
        claim.started = begun = time.monotonic()
        outcome, command = Context().run(_attempt, stage.current(), claim)
        return outcome, command, time.monotonic() - begun


def _attempt(kit: "Performer", claim: Claim) -> tuple[Outcome, str]:
    with stage.showing(kit):
        return execution.attempt(claim, Interruptible())


@contextmanager
def _usable_after(connection: Any) -> Iterator[None]:
    """
    A statement that fails ends the transaction that it is in. A job has none around it, so the test's must go on: on
    PostgreSQL from before the attempt; others undo the statement alone.
    """
    sid = connection.savepoint() if connection.vendor == "postgresql" else None
    yield
    broken, connection.needs_rollback = connection.needs_rollback, False
    if sid is None:
        return
    if not broken:
        try:
            connection.savepoint_commit(sid)
            return
        except DatabaseError:
            pass
    connection.savepoint_rollback(sid)
