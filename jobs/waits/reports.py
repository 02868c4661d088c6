"""What a running job reports of its progress: how much is done, of how much, and a word on what it does."""

import time
from asyncio import _get_running_loop
from contextlib import suppress
from datetime import UTC, datetime
from threading import Lock
from typing import Any, NamedTuple

import orjson
from redis.exceptions import RedisError

from jobs import runtime
from jobs.broker import keys
from jobs.broker.connections import Script, get_connection, run_script
from jobs.errors import JobsError
from jobs.safe_logging import safe_logger

logger = safe_logger("jobs")

TEXT_LENGTH = 200  # characters of a report's text
EVERY = 0.5  # seconds between two reports that are written, in the long run
AT_ONCE = 10  # reports that are written at once after a pause

_WRITE = Script("report.lua")

Number = int | float


class Report(NamedTuple):
    """How far a job was at a time. `total` is None if the job does not know it."""

    done: Number
    total: Number | None
    text: str
    at: datetime

    @property
    def percent(self) -> int | None:
        """The whole per cent that are done, from 0 to 100; None without a total."""
        if not self.total:
            return None
        return int(100 * min(1.0, self.done / self.total))

    @property
    def shown_done(self) -> str:
        """`done` for readers: "1,200"."""
        return f"{self.done:,}"

    @property
    def shown_total(self) -> str:
        """`total` for readers; "" without one."""
        return "" if self.total is None else f"{self.total:,}"

    def __str__(self) -> str:
        amount = f"{self.shown_done} of {self.shown_total} ({self.percent} %)" if self.total else self.shown_done
        return f"{amount}, {self.text}" if self.text else amount


def checked(done: Any, total: Any, text: Any) -> bytes:
    """Return a report as JSON. Raises ValueError for numbers that are impossible, TypeError for a text that is none."""
    for name, value in (("done", done), ("total", total)):
        if value is None and name == "total":
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
            raise ValueError(f"report: {name}={value!r} is impossible. Give a number, 0 or more.")
    if not isinstance(text, str):
        raise TypeError(f"report: the text {text!r} is no str. Give a few words on what the job does.")
    text = text[:TEXT_LENGTH].encode(errors="replace").decode()
    return orjson.dumps([done, total, text, runtime.now()])


def read(stored: bytes | str | None) -> Report | None:
    """Return the report that lies in a job's record; None if there is none, or it cannot be read."""
    with suppress(ValueError, TypeError, OverflowError, OSError):
        done, total, text, at = orjson.loads(stored or b"")
        if isinstance(text, str) and float(done) >= 0 and (total is None or float(total) >= 0):
            return Report(done, total, text, datetime.fromtimestamp(at, UTC))
    return None


class Reporter:
    """
    The reports of one attempt. So many as AT_ONCE are written as they come, then one in EVERY seconds; one that was not
    written goes with the attempt's outcome, if no later one was.
    """

    __slots__ = ("_claim", "_next_at", "_writing", "unwritten")

    def __init__(self, claim: Any) -> None:
        self._claim, self._writing = claim, Lock()
        self._next_at = 0.0  # monotonic seconds
        self.unwritten = b""

    def add(self, report: bytes) -> None:
        """Take a report. Raises nothing: a job goes on if its report cannot be written."""
        self.unwritten = report
        now = time.monotonic()
        at = max(self._next_at, now - (AT_ONCE - 1) * EVERY)
        if at > now:
            return
        self._next_at = at + EVERY
        loop = _get_running_loop()
        if loop is None:
            self._write()
        else:  # it must not wait for the server
            loop.run_in_executor(None, self._write)

    def _write(self) -> None:
        """Write the newest report. Threads that write for an event loop come in any order, and one after the other."""
        claim = self._claim
        places = (keys.registry("wip", claim.queue_name), keys.job(claim.job_id))
        with self._writing:
            report = self.unwritten
            if not report:
                return
            try:
                run_script(get_connection(claim.queue_name), _WRITE, places, (claim.id, claim.execution, report))
            except (RedisError, JobsError) as error:
                logger.warning("the report of job %s is not written: %s", claim.job_id, error)
                return
            if self.unwritten is report:
                self.unwritten = b""
