"""
Counts failed attempts by the fingerprint of their error, and follows what became of the jobs that a person retried.

A failing attempt counts itself, in one round trip; a successful one pays nothing. A server keeps MOST fingerprints, of
some 500 bytes each, and a day of counts.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from redis import Redis

from jobs import runtime
from jobs.broker import keys
from jobs.broker.connections import Script, run_script, servers
from jobs.broker.times import DAY, HOUR, as_text, moment, number_of
from jobs.inspection.fingerprints import Fingerprint

MOST = 1_000  # fingerprints that a server keeps
KEPT_FOR = 30 * DAY  # seconds after an error was last seen
STEP = 600  # seconds that are counted together
STEPS_KEPT = DAY + HOUR  # seconds
LABELS = 5_000  # fingerprints and commands counted in a step
FOLLOWED = 1_000  # retried jobs of an error that are followed
FOLLOWED_FOR = 7 * DAY  # seconds

_ERRORS = Script("errors.lua")


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Failed attempts with the same fingerprint. `trend`: their number in each step of the last day."""

    id: str
    error: str
    frame: str
    message: str
    command: str  # that of the last one
    count: int
    first: datetime
    last: datetime
    first_release: str
    release: str  # that of the last one
    job_id: str  # that of the last one
    retried_at: datetime | None = None
    commands: Counter[str] = field(default_factory=Counter)  # in the last day
    trend: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Became:
    """What became of the jobs of an error that a person retried last. `gone`: deleted, or cancelled since."""

    passed: int = 0
    failed: int = 0
    pending: int = 0
    gone: int = 0

    @property
    def total(self) -> int:
        """The number of jobs."""
        return self.passed + self.failed + self.pending + self.gone


def record(client: Redis, fingerprint: Fingerprint, command: str, release: str, job_id: str) -> None:
    """Count a failed attempt. Raises redis-py's errors."""
    now = runtime.now()
    name = fingerprint.id
    touched = [keys.ERRORS, keys.error(name), keys.errors_of(int(now) // STEP)]
    described = [
        name,
        f"{now:.3f}",
        fingerprint.error,
        fingerprint.frame,
        fingerprint.message,
        command,
        release,
        job_id,
    ]
    words = [word.encode(errors="replace") for word in described]
    run_script(client, _ERRORS, touched, [*words, MOST, KEPT_FOR, STEPS_KEPT, LABELS])


def recent(most: int = 100, since: float = 0.0) -> list[ErrorGroup]:
    """Return the errors that were seen last, the latest first, with their trend. Two round trips a server."""
    groups: list[ErrorGroup] = []
    for client in servers():
        latest: Any = client.zrange(keys.ERRORS, 0, most - 1, desc=True)
        ids = [as_text(each) for each in latest]
        groups += _read(client, ids)
    groups = [group for group in groups if group.last.timestamp() >= since]
    return sorted(groups, key=lambda group: group.last, reverse=True)[:most]


def get(group_id: str) -> ErrorGroup | None:
    """Return the error of that fingerprint; None if it is unknown."""
    groups = [group for client in servers() for group in _read(client, [group_id])]
    return groups[0] if groups else None


def by_command(seconds: int) -> dict[str, Counter[str]]:
    """Return how many attempts failed by which error, by command, in about the last `seconds`. One round trip."""
    steps = _steps(seconds)
    counted: dict[str, Counter[str]] = {}
    for client in servers():
        for of_step in _counts(client, steps):
            for (_group_id, error, command), count in of_step.items():
                counted.setdefault(command, Counter())[error] += count
    return counted


# --- retried by a person ---------------------------------------------------------------------


def follow(client: Redis, group_id: str, job_ids: Iterable[str], *, anew: bool) -> None:
    """Follow these jobs, which were retried; `anew`: in the place of those that were retried before."""
    ids, key = list(job_ids), keys.retried(group_id)
    left = FOLLOWED - (0 if anew else client.scard(key))
    with client.pipeline() as pipeline:
        if anew:
            pipeline.delete(key)
            if client.exists(keys.error(group_id)):
                pipeline.hset(keys.error(group_id), "retried", f"{runtime.now():.3f}")
        if ids[: max(0, left)]:
            pipeline.sadd(key, *ids[: max(0, left)])
            pipeline.expire(key, FOLLOWED_FOR)
        pipeline.execute()


def became(group_ids: Sequence[str]) -> dict[str, Became]:
    """Return what became of the followed jobs of these errors. Two round trips a server."""
    found = dict.fromkeys(group_ids, Became())
    for client in servers():
        with client.pipeline(transaction=False) as pipeline:
            for group_id in group_ids:
                pipeline.smembers(keys.retried(group_id))
            members = pipeline.execute()
        places = [(group_id, as_text(job)) for group_id, ids in zip(group_ids, members, strict=True) for job in ids]
        if not places:
            continue
        with client.pipeline(transaction=False) as pipeline:
            for _group_id, job_id in places:
                pipeline.hget(keys.job(job_id), "status")
                pipeline.exists(keys.gone(job_id))
            answers = pipeline.execute()
        ends: dict[str, Counter[str]] = {}
        for (group_id, _job_id), status, is_gone in zip(places, answers[::2], answers[1::2], strict=True):
            ends.setdefault(group_id, Counter())[_end(as_text(status or b""), is_gone=bool(is_gone))] += 1
        found |= {group_id: Became(**counted) for group_id, counted in ends.items()}
    return found


def _end(status: str, *, is_gone: bool) -> str:
    if status == "finished" or (not status and not is_gone):  # a finished job whose record has expired has no mark
        return "passed"
    if status in ("failed", "stopped"):
        return "failed"
    return "gone" if not status or status == "canceled" else "pending"


# --- reading ---------------------------------------------------------------------------------


def _steps(seconds: int) -> list[int]:
    last = int(runtime.now()) // STEP
    return list(range(last - seconds // STEP, last + 1))


def _counts(client: Redis, steps: Sequence[int]) -> list[dict[tuple[str, str, str], int]]:
    with client.pipeline(transaction=False) as pipeline:
        for step in steps:
            pipeline.hgetall(keys.errors_of(step))
        return [_labels(fields) for fields in pipeline.execute()]


def _labels(fields: dict[bytes, bytes]) -> dict[tuple[str, str, str], int]:
    """Parse the counts of a step: fingerprint, error class and command, each with its number."""
    pairs = (([*as_text(label).split("|", 2), "", ""], count) for label, count in fields.items())
    return {(group_id, error, command): int(number_of(count)) for (group_id, error, command, *_), count in pairs}


def _read(client: Redis, ids: Sequence[str]) -> list[ErrorGroup]:
    steps = _steps(DAY)
    with client.pipeline(transaction=False) as pipeline:
        for group_id in ids:
            pipeline.hgetall(keys.error(group_id))
        for step in steps:
            pipeline.hgetall(keys.errors_of(step))
        answers: list[Any] = pipeline.execute()
    trends = {group_id: [0] * len(steps) for group_id in ids}
    commands: dict[str, Counter[str]] = {group_id: Counter() for group_id in ids}
    for at, fields in enumerate(answers[len(ids) :]):
        for (group_id, _error, command), count in _labels(fields).items():
            if group_id in trends:
                trends[group_id][at] += count
                commands[group_id][command] += count
    records = zip(ids, answers, strict=False)
    return [_group(each, fields, commands[each], trends[each]) for each, fields in records if fields]


def _group(group_id: str, fields: dict[bytes, bytes], commands: Counter[str], trend: Sequence[int]) -> ErrorGroup:
    text = {as_text(name): as_text(value) for name, value in fields.items()}
    retried = number_of(text.get("retried"))
    return ErrorGroup(
        id=group_id,
        error=text.get("error", ""),
        frame=text.get("frame", ""),
        message=text.get("message", ""),
        command=text.get("command", ""),
        count=int(number_of(text.get("count"))),
        first=moment(number_of(text.get("first"))),
        last=moment(number_of(text.get("last"))),
        first_release=text.get("first_release", ""),
        release=text.get("release", ""),
        job_id=text.get("job", ""),
        retried_at=moment(retried) if retried else None,
        commands=commands,
        trend=tuple(trend),
    )
