"""
Checkpoints: where an attempt writes how far its steps have come, and learns that it is to end.

Each write is fenced by the claim. If it is refused, another attempt has the job, and this one ends. A loop writes at
most once a second; the end of a step is written before the next line of `call` runs. Whatever is not written yet comes
back with the attempt's outcome.
"""

import time
from asyncio import _get_running_loop
from collections.abc import Callable
from math import inf
from typing import Any, Protocol

import orjson
from redis.exceptions import RedisError

from jobs import runtime
from jobs.broker import keys
from jobs.broker.connections import Script, Word, get_connection, run_script
from jobs.broker.times import as_text
from jobs.errors import CheckpointError, StepError
from jobs.record import arguments, more
from jobs.safe_logging import safe_logger
from jobs.steps.record import RESULT, Current, State, Yielded

logger = safe_logger("jobs")

EVERY = 1.0  # seconds between two writes of a loop
SLOW = 25.0  # seconds without a checkpoint after which a stop of the worker interrupts the job
LONGEST_PAUSE = 5.0  # seconds between two tries to reach a server that is away

_CHECKPOINT = Script("checkpoint.lua")


class Held(Protocol):
    """The part of a claim that checkpoints read."""

    id: Any
    execution: Any
    letters: str
    more: Any
    started: float
    deadline: float

    @property
    def queue_name(self) -> str: ...
    @property
    def limit(self) -> float | None: ...


def _nothing(claim: Held) -> str:
    return ""


def _no_limit(claim: Any, seconds: float | None) -> None: ...


# Set by a worker's process: why the claim's attempt is to end at its next checkpoint, or ""; and its new time limit.
asked: Callable[[Any], str] = _nothing
allow: Callable[[Any, float | None], None] = _no_limit
# Set by the testing kit, which asks at each item of a transaction, too: claim, current step, number of items done.
struck: Callable[[Any, Current | None, int], str] | None = None


class Checkpoints:
    """The checkpoints of one attempt."""

    def __init__(self, claim: Held) -> None:
        """Raises StepError if the record's field cannot be read."""
        self.state = State.load(claim.more.steps)
        self.has_advanced = False  # whether this attempt has made progress
        self.job_id: bytes | None = claim.id
        self.max_runtime: float | None = None  # seconds
        self._claim = claim
        self._unwritten: dict[int, bytes] = {}  # results of steps, by number
        self._wrote_at = -inf  # monotonic seconds
        self._passed_at = time.monotonic()  # the last checkpoint
        self._yielded: Yielded | None = None
        self._error: BaseException | None = None  # of the last write, if it did not reach the server

    @property
    def is_due(self) -> bool:
        """Whether it is time for a loop to write."""
        return time.monotonic() - self._wrote_at >= EVERY

    def reach(self, *, writes: bool = False) -> None:
        """
        A checkpoint of a loop; with `writes`, the begin of a step. Raises Yielded if the attempt is to end, and
        CheckpointError inside an open transaction if it is time to write.
        """
        now = time.monotonic()
        if now - self._passed_at > SLOW:
            self._note_slow(now - self._passed_at)
        self._passed_at = now
        self._look(now)
        if writes or now - self._wrote_at >= EVERY:
            self._write(now)

    def write(self) -> None:
        """
        Write now, and wait for a server that is away: at most until the attempt's time limit, and then redis-py's
        error is raised. On an event loop, which serves other jobs, too, it is raised at once. Raises what `reach`
        raises.
        """
        now, pause = time.monotonic(), 0.05
        if now - self._passed_at > SLOW:
            self._note_slow(now - self._passed_at)
        self._passed_at = now
        while not self._write(now):
            self._look(now)
            if now > self._claim.deadline or _get_running_loop() is not None:
                raise self._error or TimeoutError
            time.sleep(pause)
            now, pause = time.monotonic(), min(2 * pause, LONGEST_PAUSE)
        self._look(now)

    def passed(self, done: int) -> None:
        """An item of a transaction is through: the testing kit may strike there."""
        if struck is not None:
            self._strike(done)

    def keep_result(self, number: int, result: bytes) -> None:
        """Have the result of a step, as JSON, written with the next write."""
        self._unwritten[number] = result

    def result(self, number: int) -> Any:
        """Return the result of a step that has ended, by its number. StepError if it is gone; redis-py's errors."""
        text = self._unwritten.get(number)
        if text is None:
            client: Any = get_connection(self._claim.queue_name)
            text = client.hget(keys.job(as_text(self._claim.id)), RESULT + str(number))
        if text is None:
            raise StepError(f"The result of the step {self.state.ended[number].name!r} is gone. Begin the job anew.")
        return arguments.decode(orjson.loads(text))

    def check(self) -> None:
        """Raise CheckpointError if a transaction is open; Yielded again, if `call` has swallowed it."""
        if self._yielded is not None:
            raise self._yielded
        if opened := runtime.open_transactions():
            raise CheckpointError(
                f"A checkpoint inside an open transaction of the database {opened[0].alias!r}: the checkpoint would be "
                "written although the transaction may be rolled back. Call `step` and `each` outside of `atomic`, or "
                "give `each` a body and atomic=True. A command with `atomic` has no steps: it is one step."
            )

    def fields(self) -> tuple[Word, ...]:
        """Return the fields of the record that go with the attempt's outcome."""
        letters = more.with_letter(self._claim.letters or more.FEW, more.STEPS)
        results: tuple[Word, ...] = ()
        for number, result in self._unwritten.items():
            results += (RESULT + str(number), result)
        return ("steps", self.state.dump(), more.FIELD, letters, *results)

    def _look(self, now: float) -> None:
        if struck is not None and self._yielded is None:
            self._strike(self.state.current.done if self.state.current else 0)
        if self._yielded is None and (reason := asked(self._claim)):
            self._yielded = Yielded(reason)
        if self._yielded is None and self.has_advanced and now - self._claim.started > (self.max_runtime or inf):
            self._yielded = Yielded(f"it has run for its {self.max_runtime:g} s", at_tail=True)
        if self._yielded is not None:
            raise self._yielded

    def _strike(self, done: int) -> None:
        if struck is not None and (reason := struck(self._claim, self.state.current, done)):
            self._yielded = Yielded(reason)
            raise self._yielded

    def _write(self, now: float) -> bool:
        """Write, if the server answers. Returns whether it did. Raises Yielded if the claim is not held any more."""
        self.check()
        self.state.at = runtime.now()
        claim, fields = self._claim, self.fields()
        words: list[Word] = [keys.RQ, claim.id, claim.execution, claim.queue_name, fields[1]]
        words += ("1" if self.has_advanced else "", *fields[4:])
        self._wrote_at = now
        try:
            is_held = run_script(get_connection(claim.queue_name), _CHECKPOINT, [], words, is_repeatable=True)
        except (RedisError, OSError) as error:
            if self._error is None:
                logger.warning("cannot write a checkpoint of job %s yet: %s", as_text(claim.id), error)
            self._error = error
            return False
        self._error = None
        if not is_held:
            self._yielded = Yielded("another attempt has the job, or it was cancelled", is_refused=True)
            raise self._yielded
        self._unwritten.clear()
        if (limit := claim.limit) is not None:
            allow(claim, limit)
        return True

    def _note_slow(self, seconds: float) -> None:
        current = self.state.current
        name = current.name if current else "(between steps)"
        self.state.slow[name] = max(int(seconds), self.state.slow.get(name, 0))
        logger.warning(
            "job %s: step %r ran %.0f s without a checkpoint; a worker that stops waits %g s for one",
            *(as_text(self._claim.id), name, seconds, SLOW),
        )
