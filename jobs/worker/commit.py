"""Outcomes on their way to Redis: each as the words that the step script reads."""

import zlib
from base64 import b64encode
from collections import deque
from collections.abc import Container, Sequence
from typing import NamedTuple

from jobs import conf, runtime
from jobs.attempts.claim import Claim
from jobs.attempts.outcomes import (
    Amended,
    Committed,
    Dead,
    Discarded,
    Finished,
    GivenBack,
    LeftOff,
    Outcome,
    Postponed,
    Recorded,
    Requeued,
    Retried,
    SlowedDown,
    Waiting,
)
from jobs.broker.connections import Word
from jobs.broker.times import DAY, iso, sendable
from jobs.record import more
from jobs.record.history import KEPT_FOR, line

DEAD_TTL = 180 * DAY  # seconds that a dead job is kept
SLOW = 2.0  # seconds: a beat may have written RQ's record of the execution
TRACEBACK_LENGTH = 20_000  # characters of a traceback that are kept, from its end

_NO_WORDS: tuple[Word, ...] = ()
_SUCCESSFUL, _FAILED, _RETRIED = "1", "2", "4"  # RQ's types of results


def _b64(text: str) -> str:
    return b64encode(zlib.compress(text[-TRACEBACK_LENGTH:].encode(errors="replace"))).decode()


class EncodedOutcome(NamedTuple):
    """An outcome as `step.lua` reads it."""

    id: bytes
    execution: bytes
    queue: bytes
    kind: str
    when: Word
    label: str  # under which the attempt is counted; empty: it is not
    slow: str  # "1" if a beat may have written RQ's record of the execution, or the job is a plain one
    result_type: str  # RQ's; empty: no result is kept
    result: str
    began: Word  # seconds since the epoch, where a result is kept
    event: str  # lines for the job's history
    entry: bytes  # the recurring entry whose run the job is
    fields: tuple[Word, ...]  # names and values for the job's record
    is_kept: bytes = b""  # whether the outbox has the job until it ends
    limits: bytes = b""  # what the attempt held, after `f`, or `r` or `q` if it was not begun
    batches: bytes = b""  # ids of the batches whose member the job is

    def words(self) -> tuple[tuple[Word, ...], tuple[Word, ...]]:
        """The arguments of the script: the words that each outcome has, and the further ones that the last names."""
        more, further = "", _NO_WORDS
        if (
            self.slow == "1"
            or self.result_type
            or self.event
            or self.entry
            or self.fields
            or self.is_kept
            or self.limits
            or self.batches
        ):
            more, further = self._more()
        return (self.id, self.execution, self.queue, self.kind, self.when, self.label, more), further

    def _more(self) -> tuple[str, tuple[Word, ...]]:
        named: dict[str, Word] = {"r": self.result_type, "v": self.result, "b": self.began, "e": self.event}
        named |= {"s": self.entry, "l": self.limits, "g": self.batches}
        letters = ("x" if self.slow == "1" else "") + ("k" if self.is_kept else "")
        letters += "".join(letter for letter, word in named.items() if word)
        words: tuple[Word, ...] = tuple(word for word in named.values() if word)
        if self.fields:
            letters, words = letters + "f", (*words, len(self.fields) // 2, *self.fields)
        return letters, words


class Handed(NamedTuple):
    """An outcome handed over, ready to be sent."""

    claim: Claim
    encoded: EncodedOutcome

    @property
    def size(self) -> int:
        """Its bytes, as far as they may be many."""
        return len(self.encoded.result) + sum(len(word) for word in self.encoded.fields if isinstance(word, str))


def words(outcomes: Sequence[Handed], again: Container[bytes] = ()) -> list[Word]:
    """
    Return the arguments of the step script for these outcomes. `again`: the executions whose outcomes were sent before.
    """
    each: list[Word] = []
    further: list[Word] = []
    for claim, encoded in outcomes:
        if again and claim.execution in again and encoded.limits.startswith(b"r"):
            encoded = encoded._replace(limits=b"q" + encoded.limits[1:])
        some, more = encoded.words()
        each += some
        further += more
    return each + further


class Commits:
    """Outcomes that threads have handed over and nobody has sent yet."""

    def __init__(self) -> None:
        self._done: deque[Handed] = deque()

    def __bool__(self) -> bool:
        return bool(self._done)

    def add(self, claim: Claim, outcome: Outcome, command: str, seconds: float, *, has_returned: bool = True) -> None:
        """
        Hand an outcome over. `command` and `seconds` (what the attempt took) are what it is counted under. An attempt
        whose body has not returned keeps the slots of its limits.
        """
        encoded = encode_outcome(claim, outcome, command, seconds)
        self._done.append(Handed(claim, encoded if has_returned else encoded._replace(limits=b"")))

    def take(self) -> list[Handed]:
        """All that is there now."""
        taken = []
        while self._done:
            taken.append(self._done.popleft())
        return taken


def encode_outcome(claim: Claim, outcome: Outcome, command: str, seconds: float) -> EncodedOutcome:
    """Encode an outcome for the step script. `command` and `seconds` are the name and the duration of the attempt."""
    kind: str
    when: Word = ""
    result_type, result, counted, note = "", "", "", ""
    began: Word = ""
    fields: tuple[Word, ...] = ()
    now = runtime.now()
    if isinstance(outcome, Finished):
        kind, when, counted = "F", outcome.ttl, "finished"
        if type(outcome) is Committed:
            note = line("committed", now, worker=claim.worker)  # for the case that the job was cancelled meanwhile
        if outcome.ttl:
            result_type = _SUCCESSFUL
            fields = ("log", _bounded(outcome.log)) if outcome.log else ()
            if outcome.result is not None:
                result = b64encode(outcome.result).decode()
    elif isinstance(outcome, Retried):
        kind, when = _at(now, outcome.delay)
        counted, began = "retried", now - seconds
        result_type, result = _RETRIED, _b64(outcome.traceback)
        fields = ("state", "retrying", "reason", outcome.reason, "progress", outcome.progress.dump())
        fields += ("more", _few(claim), "log", _bounded(outcome.log), "fingerprint", outcome.fingerprint)
        note = line("failed", now, worker=claim.worker, reason=outcome.reason)
        note += "\n" + line("retried", now, reason=f"due {iso(now + outcome.delay)}")
    elif isinstance(outcome, Requeued):
        kind, when = _at(now, outcome.delay)
        counted = "requeued"
        fields = ("state", "", "reason", "", "progress", outcome.progress.dump(), "more", _few(claim))
        note = line("requeued", now, worker=claim.worker, reason=f"due {iso(now + outcome.delay)}")
    elif isinstance(outcome, LeftOff):
        kind = "T" if outcome.at_tail else "H"
        fields = ("state", "", "reason", "")
        note = line("resumed", now, worker=claim.worker, reason=outcome.reason)
    elif isinstance(outcome, SlowedDown):
        kind, counted = "H", "requeued"
        fields = ("state", "", "reason", "", "progress", outcome.progress.dump(), "more", _few(claim))
        note = line("requeued", now, worker=claim.worker, reason=f"slowed down for {outcome.seconds:g} s")
    elif isinstance(outcome, Postponed):
        kind, when = _at(now, outcome.delay)
        fields = ("state", "", "reason", outcome.reason, "progress", outcome.progress.dump(), "more", _few(claim))
    elif isinstance(outcome, Waiting):
        kind = "W"
    elif isinstance(outcome, Dead):
        kind, when, counted, began = "D", int(now) + DEAD_TTL, "dead", now - seconds
        result_type, result = _FAILED, _b64(outcome.traceback)
        fields = ("reason", outcome.reason, "log", _bounded(outcome.log), "attempts", outcome.attempt)
        fields += ("fingerprint", outcome.fingerprint)
        note = line("failed", now, worker=claim.worker, reason=outcome.reason)
    elif isinstance(outcome, Discarded):
        kind, when, counted = "C", int(now) + KEPT_FOR, "discarded"
        fields = ("state", "discarded", "reason", outcome.reason)
        name = "expired" if outcome.expired else "discarded"
        note = line(name, now, worker=claim.worker, reason=outcome.reason)
    elif isinstance(outcome, GivenBack | Amended):
        kind, fields = "H", outcome.fields if isinstance(outcome, Amended) else ()
    elif isinstance(outcome, Recorded):
        kind, counted = "N", "finished" if outcome.finished else "dead"
    if claim.checkpoints is not None and not (kind == "F" and not when):
        fields += claim.checkpoints.fields()
    if claim.interruptions and isinstance(outcome, Retried | Requeued | LeftOff):
        fields += ("survived", claim.interruptions)  # this attempt ended by itself: the job is suspected no more
    if claim.reporter is not None and claim.reporter.unwritten and _is_over(outcome) and when != 0:
        fields += ("report", claim.reporter.unwritten)
    # Histogram buckets double: bucket n counts attempts that took less than 2**n microseconds.
    label = f"{claim.queue_name}|{command}|{counted}|{int(seconds * 1e6).bit_length()}" if counted else ""
    slow = "1" if seconds > SLOW or claim.is_plain else "0"
    if fields:
        fields = tuple(sendable(word) if isinstance(word, str) else word for word in fields)
    return EncodedOutcome(
        claim.id,
        claim.execution,
        claim.queue,
        kind,
        when,
        label,
        slow,
        result_type,
        result,
        began,
        note,
        claim.more.schedule,
        fields,
        claim.more.is_kept,
        _held(claim, outcome) if claim.more.limits else b"",
        claim.more.batches,
    )


def _held(claim: Claim, outcome: Outcome) -> bytes:
    """The limits of an attempt that is over, and whether it had begun: a start that was none does not count."""
    is_begun = not isinstance(outcome, GivenBack | Amended | Waiting) and not getattr(outcome, "expired", False)
    first = b"f" if is_begun else b"r"
    if isinstance(outcome, SlowedDown):
        first = f"s{outcome.seconds:.6f} {','.join(map(str, outcome.numbers))}".encode()
    return first + b"\n" + claim.more.limits


def _few(claim: Claim) -> str:
    """The record's `more` once it has fields that few jobs have."""
    return more.with_letter(claim.letters, more.FEW)


def _is_over(outcome: Outcome) -> bool:
    """Whether an attempt had begun, and its record is still to be written."""
    return not isinstance(outcome, GivenBack | Amended | Recorded)


def _bounded(log: str) -> str:
    """A log as it is kept: its end, if it is longer than a result may be."""
    return log[-limit:] if log and len(log) > (limit := conf.result_limit()) else log


def _at(now: float, delay: float) -> tuple[str, Word]:
    """Scheduled for later, or at once to the tail of its queue."""
    return ("S", repr(now + delay)) if delay > 0 else ("T", "")
