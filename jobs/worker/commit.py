"""Outcomes on their way to Redis: each as the words that the step script reads."""

import time
import zlib
from base64 import b64encode
from collections import deque
from datetime import UTC, datetime
from typing import NamedTuple

from jobs.connections import Word
from jobs.outcomes import Dead, Discarded, Finished, GivenBack, Outcome, Recorded
from jobs.worker.claim import Claim

DEAD_TTL = 180 * 24 * 3600  # seconds that a dead job is kept
DISCARDED_TTL = 24 * 3600  # seconds that a discarded one is
SLOW = 2.0  # seconds: a beat may have written RQ's record of the execution
TRACEBACK_LENGTH = 20_000  # characters of a traceback that are kept, from its end


def _b64(text: str) -> str:
    return b64encode(zlib.compress(text.encode(errors="replace"))).decode()


def iso(seconds: float) -> str:
    """A time as RQ writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Handed(NamedTuple):
    """An outcome handed over, ready to be sent."""

    claim: Claim
    words: list[Word]


class Commits:
    """Outcomes that threads have handed over and nobody has sent yet."""

    def __init__(self) -> None:
        self._done: deque[Handed] = deque()

    def __bool__(self) -> bool:
        return bool(self._done)

    def add(self, claim: Claim, outcome: Outcome, command: str, seconds: float) -> None:
        """Hand an outcome over. `command` and `seconds` (what the attempt took) are what it is counted under."""
        self._done.append(Handed(claim, words(claim, outcome, command, seconds)))

    def take(self) -> list[Handed]:
        """All that is there now."""
        taken = []
        while self._done:
            taken.append(self._done.popleft())
        return taken


def words(claim: Claim, outcome: Outcome, command: str, seconds: float) -> list[Word]:
    """One outcome as `step.lua` reads it."""
    kind: str
    when: Word = ""
    result_type, result = "", ""
    fields: tuple[Word, ...] = ()
    if isinstance(outcome, Finished):
        kind, when, counted = "F", outcome.ttl, "finished"
        if outcome.ttl:
            result_type = "1"
            fields = ("log", outcome.log) if outcome.log else ()
            if outcome.result is not None:
                result = b64encode(outcome.result).decode()
    elif isinstance(outcome, Dead):
        kind, when, counted = "D", int(time.time()) + DEAD_TTL, "dead"
        result_type, result = "2", _b64(outcome.traceback[-TRACEBACK_LENGTH:])
        fields = ("reason", outcome.reason, "log", outcome.log) if outcome.log else ("reason", outcome.reason)
    elif isinstance(outcome, Discarded):
        kind, when, counted = "C", int(time.time()) + DISCARDED_TTL, "discarded"
        fields = ("reason", outcome.reason)
    elif isinstance(outcome, GivenBack):
        kind, counted = "H", ""
    elif isinstance(outcome, Recorded):
        kind, counted = "N", "finished" if outcome.finished else "dead"
    # Histogram buckets double: bucket n counts attempts that took less than 2**n microseconds.
    label = f"{claim.queue_name}|{command}|{counted}|{int(seconds * 1e6).bit_length()}" if counted else ""
    slow = "1" if seconds > SLOW else "0"
    return [
        claim.id,
        claim.execution,
        claim.queue,
        kind,
        when,
        label,
        slow,
        result_type,
        result,
        len(fields) // 2,
        *fields,
    ]
