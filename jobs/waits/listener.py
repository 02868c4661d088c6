"""
Listens for the ends of jobs, for all waits of this process on one server: one thread, one connection that is subscribed
to a channel of its own, and a connection of the client's pool for each look.

A wait is noted at its job (`wait.lua`), and the script that ends the job publishes the job's id. A message may get lost
with a connection; so each job is looked at again after a new connection, and every LOOK_EVERY seconds, which renews the
note, too. What is left of a process that dies is a note that expires.
"""

import contextlib
import os
import select
import threading
import time
from collections import deque
from collections.abc import Collection
from concurrent.futures import Future, InvalidStateError
from typing import Any
from uuid import uuid4

from redis import Redis
from redis.exceptions import RedisError

from jobs.broker import keys
from jobs.broker.connections import new_pool, reaching, run_many
from jobs.broker.times import as_text
from jobs.errors import RedisUnavailableError
from jobs.safe_logging import safe_logger
from jobs.waits.end import READ, End, places, words

logger = safe_logger("jobs")

LOOK_EVERY = 20.0  # seconds between two looks at a job; under NOTED_FOR
IDLE_FOR = 10.0  # seconds without a wait after which the thread ends
LONGEST_PAUSE = 5.0  # seconds between two attempts to reach a server that is away
PATIENCE = 5.0  # seconds for the rest of a message
AT_ONCE = 200  # jobs looked at in a round trip

ERRORS = (RedisError, RedisUnavailableError, OSError)


class Waiter:
    """
    One wait for one job. `future` gets its End, or the error for which the wait could not begin; with `reports`, None
    as soon as the job reports anything or ends.
    """

    __slots__ = ("future", "has_begun", "is_known", "job", "job_id", "reports")

    def __init__(self, job: Any, *, reports: bool = False) -> None:
        self.job, self.job_id, self.reports = job, job.id, reports
        self.future: Future[End | None] = Future()
        self.has_begun = False  # whether it has been noted at the job
        self.is_known = job.is_written  # whether the job had been written before the look that is under way

    def hear(self, end: End) -> bool:
        """Take an answer of `wait.lua`. Returns whether the wait is over."""
        self.has_begun = True
        if not end.settles(is_known=self.is_known):
            self.is_known = self.is_known or end.has_record or self.job.is_written
            return False
        self.finish(None if self.reports else end)
        return True

    def finish(self, result: End | BaseException | None) -> None:
        with contextlib.suppress(InvalidStateError):  # nobody waits any more
            if isinstance(result, BaseException):
                self.future.set_exception(result)
            else:
                self.future.set_result(result)


class Listener(threading.Thread):
    """The thread that listens to one server."""

    def __init__(self, client: Redis, queue: str) -> None:
        super().__init__(name="jobs-waits", daemon=True)
        self._client, self._process = client, uuid4().hex
        self._pool = new_pool(queue, socket_timeout=PATIENCE, socket_connect_timeout=1)
        self._connection: Any = None
        self._is_asked = False  # whether an answer to PING is to come
        self._is_sound = False  # whether a look was answered since the last error
        self._waiters: dict[str, set[Waiter]] = {}  # by the job's id
        self._new: deque[str] = deque()
        self._lock = threading.Lock()
        self._is_over = False
        self._inside, self._outside = os.pipe()
        os.set_blocking(self._inside, False)
        os.set_blocking(self._outside, False)

    # --- for those that wait ---------------------------------------------------------------------

    def add(self, waiter: Waiter) -> bool:
        """Begin a wait. Returns False if the thread has ended."""
        with self._lock:
            if self._is_over:
                return False
            self._waiters.setdefault(waiter.job_id, set()).add(waiter)
            self._new.append(waiter.job_id)
            with contextlib.suppress(BlockingIOError):  # it is awake already
                os.write(self._outside, b"!")
        return True

    def drop(self, waiter: Waiter) -> None:
        """End a wait, whether it is over or not."""
        with self._lock:
            of_job = self._waiters.get(waiter.job_id)
            if of_job is not None:
                of_job.discard(waiter)
                if not of_job:
                    del self._waiters[waiter.job_id]

    # --- the thread ------------------------------------------------------------------------------

    def run(self) -> None:
        pause = 0.0
        while not self._is_over:
            try:
                self._subscribe()
                pause = 0.0
                self._listen()
            except ERRORS as error:
                if self._is_sound:  # a connection is lost, perhaps not the server
                    self._is_sound = False
                    continue
                if not pause:
                    logger.warning("waits for jobs: no answer from Redis, waiting for it: %s", error)
                self._refuse_new(error)
                pause = min(max(0.05, pause * 2), LONGEST_PAUSE)
                poll = select.poll()  # `select` refuses the files of a process that has over a thousand
                poll.register(self._inside, select.POLLIN)
                poll.poll(1_000 * pause)
                self._drain()
            except BaseException as error:
                self._end(error)
                raise
            finally:
                self._hang_up()
        os.close(self._inside)
        os.close(self._outside)

    def _ping(self) -> None:
        """Ask whether the connection still brings messages. Raises an error if the last question is not answered."""
        if self._is_asked:
            raise RedisUnavailableError("The connection that brings messages does not answer.")
        self._connection.send_command("PING", check_health=False)
        self._is_asked = True

    def _subscribe(self) -> None:
        self._is_asked = False
        connection: Any = self._pool.connection_class(**self._pool.connection_kwargs)
        self._connection = connection
        with reaching(self._client):
            connection.connect()
            connection.send_command("SUBSCRIBE", keys.woken(self._process))
            connection.read_response(disable_decoding=True)

    def _listen(self) -> None:
        """
        Look at all jobs, some at a time; before those, at each that is new or of which a message comes. Until nobody
        waits for long.
        """
        poll = select.poll()
        poll.register(self._inside, select.POLLIN)
        poll.register(self._connection._sock.fileno(), select.POLLIN)
        next_at, busy_at, due = 0.0, time.monotonic(), deque[str]()
        while not self._is_over:
            woken = self._woken()  # the answer to the last PING, too: this process may have stood still for long
            now = time.monotonic()
            if now >= next_at:
                self._ping()
                due, next_at = deque(self._awaited()), now + LOOK_EVERY
            self._look(woken | self._take_new())
            self._look([due.popleft() for _ in range(min(AT_ONCE, len(due)))])
            if self._waiters:
                busy_at = time.monotonic()
            elif time.monotonic() >= busy_at + IDLE_FOR:
                self._end(None)
                break
            until = next_at if self._waiters else busy_at + IDLE_FOR
            poll.poll(0 if due else 1_000 * max(0.0, until - time.monotonic()))
            self._drain()

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._inside, 65_536)

    def _awaited(self) -> set[str]:
        with self._lock:
            return set(self._waiters)

    def _take_new(self) -> set[str]:
        new = set()
        while self._new:
            new.add(self._new.popleft())
        return new

    def _woken(self) -> set[str]:
        """Read the messages that have come. Returns the jobs that have ended."""
        ended = set()
        while self._connection.can_read(timeout=0):
            *_, message = self._connection.read_response(disable_decoding=True)
            self._is_asked = False
            what, _, job_id = as_text(message).partition(" ")  # of the answer to PING: nothing
            if what == "end":
                ended.add(job_id)
            for waiter in self._of(job_id):
                if waiter.reports:
                    waiter.finish(None)
        return ended

    def _of(self, job_id: str) -> list[Waiter]:
        with self._lock:
            return list(self._waiters.get(job_id, ()))

    def _look(self, ids: Collection[str]) -> None:
        """Read these jobs, and note this process at those that have not ended."""
        ids = [job_id for job_id in ids if job_id in self._waiters]
        for first in range(0, len(ids), AT_ONCE):
            some = ids[first : first + AT_ONCE]
            calls = [(places(each), words(each, self._process)) for each in some]
            waiters = [self._of(each) for each in some]  # the answer is not for those that come after it
            with reaching(self._client):
                answers = run_many(self._client, READ, calls)
            self._is_sound = True
            for of_job, answer in zip(waiters, answers, strict=True):
                end = End(*answer)
                for waiter in of_job:
                    if waiter.hear(end):
                        self.drop(waiter)

    def _refuse_new(self, error: BaseException) -> None:
        """A wait that cannot begin raises; one that has begun goes on: the server may come back in time."""
        for job_id in self._awaited():
            for waiter in self._of(job_id):
                if not waiter.has_begun:
                    waiter.finish(error)
                    self.drop(waiter)

    def _end(self, error: BaseException | None) -> None:
        with self._lock:
            if error is None and self._waiters:
                return  # one has come meanwhile
            self._is_over = True
            left = [waiter for of_job in self._waiters.values() for waiter in of_job]
        for waiter in left:
            waiter.finish(error)

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None


_listeners: dict[Redis, Listener] = {}
_starting = threading.Lock()


def begin(waiter: Waiter) -> Listener:
    """Begin a wait. The caller drops it from the listener that is returned."""
    client: Redis = waiter.job.connection
    listener = _listeners.get(client)
    if listener is not None and listener.add(waiter):
        return listener
    with _starting:
        listener = _listeners.get(client)
        if listener is None or not listener.add(waiter):
            listener = Listener(client, waiter.job.origin)
            listener.add(waiter)
            listener.start()  # if there is no thread to be had, the next wait tries again
            _listeners[client] = listener
    return listener


def _forget() -> None:
    """In a forked process: the threads are the parent's."""
    global _starting
    _listeners.clear()
    _starting = threading.Lock()


os.register_at_fork(after_in_child=_forget)
