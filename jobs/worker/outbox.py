"""
Runs the relay of the outbox: in a thread of its own in each child, of which one a server works, by a lease.

It is no job, which would wait in the very queues that are behind; and the parent opens no database connection.
"""

import threading
import time

from django.db import DatabaseError, close_old_connections, connections
from redis import Redis

from jobs.broker import keys
from jobs.broker.connections import get_connection, run_script
from jobs.broker.lease import Lease
from jobs.outbox import rows
from jobs.outbox.relay import Relay
from jobs.safe_logging import safe_logger

logger = safe_logger("jobs.worker")

EVERY = 1.0  # seconds between two turns
LEASE = 5_000  # milliseconds in which the other children leave the work to the one that does it
SWEEP_EVERY = 60.0  # seconds between two looks at all kept rows


def start(queue: str) -> None:
    """Start the thread, if the project has an outbox. `queue`: one of the worker's; it names the server."""
    if rows.is_on():
        threading.Thread(target=Turns(get_connection(queue)).run, name="jobs-outbox", daemon=True).start()


class Turns:
    """The turns of one child's relay, until its process ends."""

    def __init__(self, client: Redis) -> None:
        self._relay = Relay(client)
        self._lease = Lease(
            keys.lease("outbox"), LEASE, lambda script, at, *words: run_script(client, script, at, words)
        )
        self._swept_to, self._sweep_at = 0, time.monotonic()
        self._failing = ""

    def run(self) -> None:
        """Make a turn each second. A failure ends the turn, and is logged when it begins."""
        never = threading.Event()
        while not never.wait(EVERY):
            try:
                if self._lease.hold():
                    self.turn()
                self._failing = ""
            except Exception as error:  # a server that is away, or whatever lies in the outbox, must not end the thread
                self._log(error)
            finally:
                close_old_connections()

    def turn(self) -> None:
        """Send what is unsent; where rows are kept, delete those of ended jobs, and look at some of the others."""
        close_old_connections()
        self._relay.send()
        if not rows.are_kept():
            return
        self._relay.drain()
        now = time.monotonic()
        if self._swept_to or now >= self._sweep_at:
            if not self._swept_to:
                self._sweep_at = now + SWEEP_EVERY
            until = now + EVERY / 2
            while (swept_to := self._relay.sweep(self._swept_to)) and time.monotonic() < until:
                self._swept_to = swept_to
            self._swept_to = swept_to

    def _log(self, error: Exception) -> None:
        if (text := repr(error)) != self._failing:
            logger.warning("the outbox waits: %s", text)
        self._failing = text
        if isinstance(error, DatabaseError):
            connections.close_all()
