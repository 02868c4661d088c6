"""
Which idle workers watch the queues' lists. Every worker that watches one wakes for each of its jobs, so of the workers
that serve the same queues (a group) two do, the *doormen*. The others wait at the group's bell, a list of tokens: each
token wakes one worker.

Nothing but the speed of a wake-up depends on any of this. A doorman takes no job: an id lies in its list until a step
claims it. A place that was not renewed ends by itself, and a worker at the bell looks for jobs every few seconds.
"""

import threading
import time
from collections.abc import Collection, Iterable

from redis.exceptions import RedisError

from jobs.broker import keys
from jobs.broker.connections import Script
from jobs.worker.connection import UNREACHABLE, Wire

RENEW = 5.0  # seconds after which a place is renewed, and asked for again by a worker that has none
LEASE = 15.0  # seconds that a place is kept without that

_DOOR = Script("door.lua")


class Place:
    """One worker's place among the doormen of its group. Any thread may call any method."""

    def __init__(self, worker: str, queues: Iterable[str], threads: int) -> None:
        """`queues`: the names of all queues that the worker serves; they name its group."""
        names = sorted(queues)
        group = ",".join(names)
        self.bells = (keys.bell(group), keys.recall(worker))
        self.is_held = False
        self.held_since = 0.0  # monotonic seconds
        self.has_asked = False  # whether the worker has asked for a place since it last left
        self._keys = [keys.doormen(group), *self.bells]
        self._worker, self._threads = worker, threads
        self._wire = Wire(names[0])
        self._using_wire = threading.Lock()
        self._ask_at = 0.0  # monotonic seconds
        self._is_unread = False  # whether the answer of `leave` is still to be read

    def take(self) -> bool:
        """
        Take a place, if one is vacant, or renew it. Returns whether this worker is a doorman. The server is asked once
        in RENEW seconds, or after `expect_change`. Raises redis-py's errors.
        """
        with self._using_wire:
            now = time.monotonic()
            if now < self._ask_at:
                return self.is_held
            self._read_answer()
            was_held, self.is_held = self.is_held, False
            self.is_held = bool(self._wire.run(_DOOR, self._keys, self._worker, LEASE))
            if not was_held:
                self.held_since = now
            self.has_asked, self._ask_at = True, now + RENEW
            return self.is_held

    @property
    def may_be_relieved(self) -> bool:
        """Whether it has been held for RENEW seconds: a place must not go round among workers that are all busy."""
        return self.is_held and time.monotonic() > self.held_since + RENEW

    def expect_change(self) -> None:
        """Ask for a place at the next `take`: a token has come."""
        self._ask_at = 0.0

    def forget(self) -> None:
        """The server was lost, or refuses: it may know nothing of this place, and nothing may reach it."""
        if self._using_wire.acquire(blocking=False):
            self.has_asked = self.is_held = self._is_unread = False
            self._ask_at = 0.0
            self._wire.close()
            self._using_wire.release()

    def leave(self, queues: Collection[str]) -> None:
        """
        Leave the place or the bell, and wake others: one for a vacant place, and as many as there is work for in these
        queues. Does nothing if this worker has not asked for a place since it last left. The answer is not waited for,
        as a claimed job is; an error is ignored, as the place ends by itself.
        """
        if not self.has_asked or not self._using_wire.acquire(blocking=False):
            return  # whoever uses the connection leaves, or asks, and then looks whether it should leave
        try:
            self.has_asked = self.is_held = False
            self._ask_at = 0.0
            if self._wire.is_open and not self._is_unread:
                names = [*self._keys, *map(keys.queue, queues)]
                self._wire.send("EVALSHA", _DOOR.sha, len(names), *names, self._worker, 0, self._threads)
                self._is_unread = True
        except UNREACHABLE:
            self._wire.close()
        finally:
            self._using_wire.release()

    def _read_answer(self) -> None:
        if self._is_unread:
            self._is_unread = False
            try:
                self._wire.receive()
            except (RedisError, OSError):  # NOSCRIPT after SCRIPT FLUSH, or a connection that is lost
                self._wire.close()

    def close(self) -> None:
        self._wire.close()


def vacate(wire: Wire, worker: str, queues: Collection[str]) -> None:
    """Give up the place of a worker that is dead, and wake another for it. Raises redis-py's errors."""
    group = ",".join(sorted(queues))
    names = [keys.doormen(group), keys.bell(group), keys.recall(worker), *map(keys.queue, queues)]
    wire.run(_DOOR, names, worker, 0, 1)
