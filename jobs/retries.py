"""
Retry policy: decides what follows a failed attempt. Pure: no Redis, no clock, and the random number is an argument.

Rules match subclasses and the chain of causes. If several match an error, the one for the most specific class applies.
In an exception group each member is matched separately: one match is enough for a retry, all must match to discard.
"""

import random
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from math import nan
from numbers import Real
from typing import Protocol

import orjson
from django.db import OperationalError

from jobs import unrun
from jobs.errors import CommandDefinitionError
from jobs.safe_logging import safe_logger

logger = safe_logger("jobs")

Errors = type[BaseException] | tuple[type[BaseException], ...]
Wait = float | timedelta | str | Callable[[int, BaseException], float | timedelta]

POLYNOMIALLY_LONGER = "polynomially_longer"
CENTURY = 36_525 * 86_400.0  # seconds
DEEPEST = 100  # levels of nested groups that rules examine
DEFAULT_CURVE = ""  # the key of failures that no rule claims


def seconds_of(value: object) -> float:
    """
    Return the seconds of a number or a timedelta. NaN, which fails every comparison, for anything else, and for more
    than a hundred years: a time that far away cannot always be represented.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, Real) and not isinstance(value, bool) and value <= CENTURY:
        return float(value)
    return nan


class _DeadlockType(type):
    def __instancecheck__(cls, error: object) -> bool:
        return isinstance(error, OperationalError) and _lost_a_lock(error)


class Deadlock(OperationalError, metaclass=_DeadlockType):
    """
    In rules: the database errors that mean "try again": a deadlock, a serialization failure, a lock time-out.

    PostgreSQL 40P01 and 40001, MySQL 1213 and 1205, SQLite's "database is locked"; as Django raises them.
    """


def _lost_a_lock(error: OperationalError) -> bool:
    cause = error.__cause__
    code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    first = error.args[0] if error.args else None
    return code in {"40P01", "40001"} or first in {1213, 1205} or "is locked" in str(first)


class RetryOn:
    """
    Retry on these errors: `RetryOn(Timeout, ConnectionError, wait=3, attempts=5, jitter=0.15)`.

    `wait` is seconds, a timedelta, a callable `(attempt, error)` that returns either, or "polynomially_longer"
    (attempt**4 + 2 seconds). `attempts` counts the first run too. `jitter` is the largest part of the wait that is
    added at random; a callable's result is used unchanged. The meaning and the defaults are ActiveJob's `retry_on`.

    Raises CommandDefinitionError for invalid arguments.
    """

    def __init__(
        self, *errors: type[BaseException], wait: Wait = 3, attempts: int = 5, jitter: float | None = None
    ) -> None:
        self.errors, self.wait, self.attempts = errors, wait, attempts
        self.jitter = 0.15 if jitter is None else jitter
        if not errors or not all(isinstance(error, type) and issubclass(error, BaseException) for error in errors):
            raise CommandDefinitionError(f"{self!r}: the errors must be one or more exception classes.")
        if not (type(attempts) is int and attempts >= 1):
            raise CommandDefinitionError(f"{self!r}: attempts must be a whole number, 1 or more.")
        if wait != POLYNOMIALLY_LONGER and not callable(wait) and not seconds_of(wait) >= 0:
            raise CommandDefinitionError(
                f"{self!r}: wait must be seconds (0 or more), a timedelta, a callable (attempt, error), "
                f"or {POLYNOMIALLY_LONGER!r}."
            )
        if callable(wait) and (kind := unrun.kind_of(wait)):
            raise CommandDefinitionError(
                f"{self!r}: wait is {kind}, and a call would not run its body. Make it a plain function."
            )
        if not (isinstance(self.jitter, int | float) and 0 <= self.jitter <= 1):
            raise CommandDefinitionError(f"{self!r}: jitter must be a part of the wait, 0 to 1.")

    def __repr__(self) -> str:
        names = ", ".join(getattr(error, "__name__", repr(error)) for error in self.errors)
        return f"RetryOn({names}, wait={self.wait!r}, attempts={self.attempts!r})"

    @property
    def key(self) -> str:
        """The key under which its failures are counted."""
        return "+".join(f"{error.__module__}.{error.__qualname__}" for error in self.errors)

    def delay(self, attempt: int, error: BaseException, chance: float) -> float:
        """Return the seconds to wait after this attempt (1: the first); `chance` is a random number from 0 to 1."""
        wait = self.wait
        if callable(wait):
            seconds = seconds_of(unrun.checked(wait(attempt, error), f"The wait of {self!r}"))
            if not seconds >= 0:
                raise ValueError(f"{self!r}: the callable must return seconds, 0 or more, or a timedelta.")
            return seconds
        if wait == POLYNOMIALLY_LONGER:
            return float(attempt**4 * (1 + chance * self.jitter) + 2)
        return seconds_of(wait) * (1 + chance * self.jitter)


DEADLOCKS = RetryOn(Deadlock, wait=3, attempts=5)


Rule = RetryOn | type[BaseException]  # the latter to discard
Claims = dict[Rule | None, BaseException]
_OF_EVERY_GROUP = (Exception, BaseException)  # rules for these mean its members


class Policy(Protocol):
    """The attributes of a command class that are read here."""

    retries: int
    retry_on: Sequence[RetryOn]
    discard_on: Sequence[type[BaseException]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """
    Counts of a job's attempts, stored with the job between them. Empty again once the job is dead, so that it has a
    fresh budget if a person retries it, in any way.
    """

    attempts: int = 0  # that ended in a retry or a requeue
    requeues: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)  # by rule
    since: Mapping[str, float] = field(default_factory=dict)  # seconds since the epoch, by what the job waits for

    @classmethod
    def load(cls, text: bytes) -> "Progress":
        """Read it from the job's record, without fields of newer releases. ValueError for what `dump` did not write."""
        if not text:
            return _NONE
        fields = orjson.loads(text)
        if not isinstance(fields, dict):
            raise ValueError(f"not the progress of a job: {text[:100]!r}")
        progress = cls(**{name: value for name, value in fields.items() if name in cls.__slots__})
        if not (isinstance(progress.failures, dict) and isinstance(progress.since, dict)):
            raise ValueError(f"not the progress of a job: {text[:100]!r}")
        counts = [progress.attempts, progress.requeues, *progress.failures.values()]
        times = progress.since.values()
        if not (
            all(type(count) is int and count < 2**53 for count in counts)
            and all(type(at) in (int, float) for at in times)
        ):
            raise ValueError(f"not the progress of a job: {text[:100]!r}")
        return progress

    def dump(self) -> bytes:
        """Return it in the form of the job's record, without fields at their default."""
        fields = {"attempts": self.attempts, "requeues": self.requeues, "failures": self.failures, "since": self.since}
        return orjson.dumps({name: value for name, value in fields.items() if value})

    def failed(self, key: str) -> "Progress":
        """Return the progress after one more failure under that key."""
        failures = {**self.failures, key: self.failures.get(key, 0) + 1}
        return replace(self, attempts=self.attempts + 1, failures=failures, since={})


_NONE = Progress()


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again in `delay` seconds."""

    delay: float
    progress: Progress


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No retry is left, or the command allows none."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Discard the job: the command lists this error in `discard_on`."""


def decide(
    error: BaseException, policy: Policy, progress: Progress, chance: Callable[[], float] = random.random
) -> Retry | GiveUp | Drop:
    """Decide what follows an attempt that failed with this error."""
    claims = _claims(error, [*policy.retry_on, *policy.discard_on])
    rule = next((rule for rule in policy.retry_on if rule in claims), None)
    if rule is None:
        if claims and None not in claims:
            return Drop()
        claims = _claims(error, [DEADLOCKS])
        if DEADLOCKS not in claims:
            return _default(policy, progress, chance)
        rule = DEADLOCKS
    attempt = progress.failures.get(rule.key, 0) + 1
    if attempt >= rule.attempts:
        return _default(policy, progress, chance) if rule is DEADLOCKS else GiveUp()
    try:
        delay = rule.delay(attempt, claims[rule], chance())
    except Exception:
        logger.exception("the wait of %r cannot be computed; the default one is used", rule)
        delay = default_delay(attempt - 1, chance())
    return Retry(delay, progress.failed(rule.key))


def _default(policy: Policy, progress: Progress, chance: Callable[[], float]) -> Retry | GiveUp:
    failures = progress.failures.get(DEFAULT_CURVE, 0)
    if failures >= policy.retries:
        return GiveUp()
    return Retry(default_delay(failures, chance()), progress.failed(DEFAULT_CURVE))


def default_delay(failures: int, chance: float) -> float:
    """
    Return the seconds to wait after a failure with so many before it; 25 of them take about 20 days.

    Sidekiq's curve (its wiki, "Error Handling"): n**4 + 15 + a random part of 10 * (n + 1).
    """
    return float(failures**4 + 15 + chance * 10 * (failures + 1))


def _claims(error: BaseException, rules: Sequence[Rule]) -> Claims:
    """
    Return the rules that claim an error, each with the error or the group's member that it claims.

    A plain error has one entry. A group has one for each rule that claims a member, and one under None if there is a
    member that no rule claims; cancellations among the members do not count. A rule for the group's own class comes
    first, and then claims all of it.
    """
    return _claims_of(error, rules, {}, 0) or {None: error}


def _claims_of(error: BaseException, rules: Sequence[Rule], cache: dict[int, Claims], depth: int) -> Claims:
    if id(error) in cache:  # the cause of several members, or a cycle
        return cache[id(error)]
    cache[id(error)] = {}
    claims: Claims = {} if isinstance(error, CancelledError) else {None: error}
    for each in _chain(error):
        if (rule := _rule_for(each, rules)) is not None:
            claims = {rule: error}
            break
        if isinstance(each, BaseExceptionGroup) and depth < DEEPEST:
            of_members: Claims = {}
            for member in each.exceptions:
                of_members = _claims_of(member, rules, cache, depth + 1) | of_members
            if any(of_members):
                claims = of_members if each is error else dict.fromkeys(of_members, error)
                break
    cache[id(error)] = claims
    return claims


def _rule_for(error: BaseException, rules: Sequence[Rule]) -> Rule | None:
    """Return the rule for the most specific class of this error; its causes and members do not count."""
    matching = [
        (_distance(type(error), kind), position, rule)
        for position, rule in enumerate(rules)
        for kind in (rule.errors if isinstance(rule, RetryOn) else (rule,))
        if isinstance(error, kind) and not (isinstance(error, BaseExceptionGroup) and kind in _OF_EVERY_GROUP)
    ]
    return min(matching, key=lambda match: match[:2])[2] if matching else None


def _distance(kind: type, rule: type) -> int:
    """Return how far the rule's class is above the error's; -1 (most specific) if it is not a base of it: Deadlock."""
    return kind.__mro__.index(rule) if rule in kind.__mro__ else -1


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
