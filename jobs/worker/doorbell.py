"""Waits for work on every queue: wakes at once, costs nothing meanwhile, and takes no job."""

import contextlib
import os
import select
import time

from jobs.worker.connection import UNREACHABLE, Wire

PATIENCE = 5  # seconds that the server waits before it answers "nothing yet"; a longer silence is a dead connection
POLL = 0.05  # seconds, for servers without BLMOVE


class Doorbell:
    """
    One waiting connection per queue. `BLMOVE list list LEFT LEFT` moves the head of a list onto itself: it waits until
    the list has a head, and changes nothing.

    Only one thread at a time may `wait`; any thread may `ring` to wake it.
    """

    def __init__(self, queue_keys: dict[str, str], *, blocks: bool) -> None:
        """`queue_keys`: the list of each queue by its name. `blocks`: whether the server has BLMOVE (6.2 and newer)."""
        self._keys = queue_keys
        self._blocks = blocks
        self._wires = {queue: Wire(queue, timeout=PATIENCE) for queue in queue_keys} if blocks else {}
        self._asked: dict[str, float] = {}  # when each queue's connection began to wait
        self._no_list: dict[str, float] = {}  # queues whose key holds something else, and when that was found
        self._inside, self._outside = os.pipe()
        os.set_blocking(self._inside, False)
        os.set_blocking(self._outside, False)

    def ring(self) -> None:
        """Wake the thread that waits, or the next one that would."""
        with contextlib.suppress(BlockingIOError):  # it rings already
            os.write(self._outside, b"!")

    def wait(self, queues: list[str], limit: float) -> None:
        """
        Return when one of these queues may have work, when `ring` was called, or after `limit` seconds.

        Raises redis-py's errors if a connection is lost; the next call reopens it.
        """
        if not self._blocks:
            self._select([], min(limit, POLL))
            return
        if self._no_list:
            found = time.monotonic() - PATIENCE
            self._no_list = {queue: at for queue, at in self._no_list.items() if at > found}
            queues, limit = [queue for queue in queues if queue not in self._no_list], min(limit, PATIENCE)
        wires = [self._ask(queue) for queue in queues]
        overdue = min((self._asked[queue] for queue in queues), default=time.monotonic()) + 2 * PATIENCE
        ready = self._select(wires, min(limit, max(0.0, overdue - time.monotonic())))
        now = time.monotonic()
        for queue in queues:
            wire = self._wires[queue]
            if wire in ready:
                self._hear(queue, wire)
            elif self._asked[queue] + 2 * PATIENCE < now:
                wire.close()  # no answer for too long: a half-open connection
                del self._asked[queue]

    def _ask(self, queue: str) -> Wire:
        wire = self._wires[queue]
        if queue not in self._asked:
            try:
                key = self._keys[queue]
                wire.send("BLMOVE", key, key, "LEFT", "LEFT", PATIENCE)
            except UNREACHABLE:
                wire.close()
                raise
            self._asked[queue] = time.monotonic()
        return wire

    def _hear(self, queue: str, wire: Wire) -> None:
        del self._asked[queue]
        try:
            wire.receive()
        except BaseException as error:
            wire.close()
            if not str(error).startswith("WRONGTYPE"):
                raise
            self._no_list[queue] = time.monotonic()  # asked again after PATIENCE: the other queues must not wait for it

    def _select(self, wires: list[Wire], limit: float) -> list[Wire]:
        poll = select.poll()
        poll.register(self._inside, select.POLLIN)
        by_file = {wire.fileno(): wire for wire in wires}
        for file in by_file:
            poll.register(file, select.POLLIN)
        ready = {file for file, _ in poll.poll(limit * 1_000)}
        if self._inside in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._inside, 4_096)
        return [by_file[file] for file in ready if file in by_file]

    def close(self) -> None:
        for wire in self._wires.values():
            wire.close()
        os.close(self._inside)
        os.close(self._outside)
