"""Waits for work on every queue: wakes at once, costs nothing meanwhile, and takes no job."""

import contextlib
import os
import select
import time

from redis.exceptions import ResponseError

from jobs.worker.connection import UNREACHABLE, Wire
from jobs.worker.doormen import Place

PATIENCE = 5  # seconds that the server waits before it answers "nothing yet"; a longer silence is a dead connection
POLL = 0.05  # seconds, for servers without BLMOVE
BELL = ""  # stands for the bell among the names of queues


class Doorbell:
    """
    One waiting connection per queue. `BLMOVE list list LEFT LEFT` moves the head of a list onto itself: it waits until
    the list has a head, and changes nothing. It wakes all who wait so, for each job; so only doormen do, and workers
    that must not claim. The others wait at the bell, over one connection.

    Only one thread at a time may `wait`; any thread may `ring` to wake it, and `leave`.
    """

    def __init__(self, queue_keys: dict[str, str], *, blocks: bool, place: Place | None = None) -> None:
        """
        `queue_keys`: the list of each queue by its name. `blocks`: whether the server has BLMOVE (6.2 and newer).
        `place`: the worker's among the doormen of its group; without one, every queue is watched.
        """
        self._keys = queue_keys
        self._blocks = blocks
        self._place = place if blocks else None
        self._wires = {queue: Wire(queue, timeout=PATIENCE) for queue in queue_keys} if blocks else {}
        self._wires[BELL] = Wire(next(iter(queue_keys)), timeout=PATIENCE)
        self._watched: list[str] = []  # what the last wait listened to
        self._asked: dict[str, float] = {}  # when each queue's connection began to wait
        self._no_list: dict[str, float] = {}  # queues whose key holds something else, and when that was found
        self._inside, self._outside = os.pipe()
        os.set_blocking(self._inside, False)
        os.set_blocking(self._outside, False)

    def ring(self) -> None:
        """Wake the thread that waits, or the next one that would."""
        with contextlib.suppress(BlockingIOError):  # it rings already
            os.write(self._outside, b"!")

    @property
    def may_be_relieved(self) -> bool:
        """Whether this worker has been a doorman for long enough to leave while some of its threads are idle."""
        return self._place is not None and self._place.may_be_relieved

    @property
    def is_expected(self) -> bool:
        """Whether other workers may rely on this one: it has waited since it last left."""
        return self._place is not None and self._place.has_asked

    def leave(self, queues: list[str]) -> None:
        """
        No thread of this worker comes to `wait` soon, or another worker would serve better: let others watch the
        queues, and wake as many as these queues have jobs for. Does nothing if it has been called since the last wait.
        """
        if self._place is not None:
            self._place.leave(queues)

    def wait(self, queues: list[str], limit: float, *, claims: bool = True) -> None:
        """
        Return when one of these queues may have work, when `ring` was called, or after `limit` seconds. `claims`:
        whether this worker may take a job if it wakes; otherwise it is no doorman.

        Raises redis-py's errors if a connection is lost; the next call reopens it.
        """
        if not self._blocks:
            self._select([], min(limit, POLL))
            return
        try:
            self._listen(self._sources(queues, claims), limit)
        except (*UNREACHABLE, ResponseError):
            if self._place is not None:
                self._place.forget()
            raise

    def _listen(self, queues: list[str], limit: float) -> None:
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

    def _sources(self, queues: list[str], claims: bool) -> list[str]:
        """What to listen to: these queues, or the bell."""
        if self._place is None:
            return queues
        sources = list(queues)
        if not queues or not claims:
            self._place.leave(queues)
        elif not self._place.take():
            sources = [BELL]
        if BELL in self._asked and BELL not in sources:
            sources.append(BELL)  # a token that comes there must not lie in the socket
        for source in set(sources).difference(self._watched):
            self._forget_old_answer(source)
        self._watched = sources
        return sources

    def _forget_old_answer(self, source: str) -> None:
        """Drop what has come since this source was last listened to: it was told to others, too."""
        if source not in self._asked:
            return
        wire, poll = self._wires[source], select.poll()
        poll.register(wire.fileno(), select.POLLIN)
        if poll.poll(0):
            del self._asked[source]
            try:
                wire.receive()
            except (*UNREACHABLE, ResponseError):
                wire.close()

    def _ask(self, queue: str) -> Wire:
        wire = self._wires[queue]
        if queue not in self._asked:
            try:
                if queue == BELL and self._place is not None:
                    wire.send("BLPOP", *self._place.bells, PATIENCE)
                else:
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
            answer = wire.receive()
        except BaseException as error:
            wire.close()
            if not str(error).startswith("WRONGTYPE"):
                raise
            if queue == BELL and self._place is not None:
                self._place.expect_change()  # which puts the key aside
            else:
                self._no_list[queue] = time.monotonic()  # asked again after PATIENCE: the others must not wait for it
        else:
            if queue == BELL and answer and self._place is not None:
                self._place.expect_change()

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
        if self._place is not None:
            self._place.close()
        os.close(self._inside)
        os.close(self._outside)
