"""
Profiles attempts with `profiler`, in the attempt's own thread, and keeps the profiles for a day.

A job that is not profiled runs no code of this module. Neither an error here nor a missing extra fails a job that is.
"""

import contextlib
import random
import zlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from redis import Redis

from jobs import runtime
from jobs.attempts.current import Attempt
from jobs.broker import keys
from jobs.broker.connections import get_connection, servers
from jobs.broker.times import as_text, moment
from jobs.errors import MissingExtraError
from jobs.mandate import Mandate
from jobs.record.history import KEPT_FOR
from jobs.safe_logging import safe_logger

if TYPE_CHECKING:
    from jobs.attempts.profiler import Profiler

logger = safe_logger("jobs")

KEPT = 200  # profiles on a server; if there are more, the oldest are deleted
LARGEST_INFLATED = 32 * 1_024 * 1_024  # bytes of what was compressed, a flame graph or a summary

NEXT_ONES = 20  # attempts that a worker profiles when a person requests profiles

Run = Callable[[Any, Callable[[], Any]], Any]

AsyncRun = Callable[[Any, Callable[[], Coroutine[Any, Any, Any]]], Coroutine[Any, Any, Any]]

next_ones = 0  # attempts in this process that are still to be profiled, of any command
_taking = Lock()


def want_next_ones() -> None:
    """Profile the next NEXT_ONES attempts in this process. Drawing a graph of each makes the process slower."""
    global next_ones
    next_ones = NEXT_ONES


def _is_next() -> bool:
    global next_ones
    with _taking:
        is_next = next_ones > 0
        next_ones -= is_next
    return is_next


@dataclass(frozen=True, slots=True)
class Profile:
    """One attempt's profile without its flame graph, which `flame_graph` reads."""

    job_id: str
    attempt: int
    command: str
    at: datetime
    seconds: float
    samples: int
    ended: str  # "finished", or the class of the error that it raised
    cut: str  # a sentence about what was left out, or ""
    summary: str
    has_graph: bool


def profiled(run: Run, attempt: Attempt, command: Mandate, *, asked: bool) -> Run:
    """
    Wrap `run` so that the call is profiled: if `asked`, at the command's `profile_rate`, or after `want_next_ones`.
    Otherwise, in the testing kit, and, with a warning in the log, without pyinstrument, returns `run` itself.

    The call returns and raises the same as without a profile.
    """
    if runtime.stand_in is not None or not (asked or random.random() < command.profile_rate or _is_next()):
        return run
    try:
        from jobs.attempts.profiler import Profiler
    except MissingExtraError as error:
        logger.warning("%s is not profiled. %s", attempt, error, extra=attempt.fields())
        return run

    def running(claim: Any, call: Callable[[], Any]) -> Any:
        profiler = Profiler(str(attempt))
        ended = "finished"
        try:
            if command.is_async:  # in the thread of its loop, where a time-out comes between two steps
                return run(claim, lambda: profiler.awaiting(call()))
            # Around `run`, so that no time-out can interrupt it.
            with profiler.watching():
                return run(claim, call)
        except BaseException as error:
            ended = type(error).__qualname__
            raise
        finally:
            _keep(profiler, attempt, ended)

    return running


def profiled_on_loop(run: AsyncRun, attempt: Attempt, command: Mandate, *, asked: bool) -> AsyncRun:
    """The same for an attempt on a worker's event loop: its samples are those of its own task."""
    if not (asked or random.random() < command.profile_rate or _is_next()):
        return run
    try:
        from jobs.attempts.profiler import Profiler
    except MissingExtraError as error:
        logger.warning("%s is not profiled. %s", attempt, error, extra=attempt.fields())
        return run

    async def running(claim: Any, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        profiler = Profiler(str(attempt))
        ended = "finished"
        try:
            return await run(claim, lambda: profiler.awaiting(call()))
        except BaseException as error:
            ended = type(error).__qualname__
            raise
        finally:
            await sync_to_async(_keep)(profiler, attempt, ended)

    return running


# --- kept in Redis ---------------------------------------------------------------------------


def _keep(profiler: "Profiler", attempt: Attempt, ended: str) -> None:
    from jobs.attempts import profiler as drawing

    session = profiler.last_session
    if session is None:
        return
    claim = attempt.claim
    try:
        graph, cut = drawing.flame_graph(session)
        record: dict[Any, Any] = {
            "command": attempt.command,
            "at": repr(session.start_time),
            "seconds": repr(session.duration),
            "samples": session.sample_count,
            "ended": ended,
            "cut": cut,
            "summary": zlib.compress(drawing.summary(session).encode(errors="replace")),
            "graph": graph,
        }
        _write(get_connection(claim.queue_name), f"{claim.job_id}:{attempt.number}", record)
    except Exception:  # an error of its profile must not change the attempt
        logger.warning("the profile of %s could not be kept", attempt, exc_info=True, extra=attempt.fields())


def _write(client: Redis, member: str, record: dict[Any, Any]) -> None:
    now = runtime.now()
    with client.pipeline() as pipeline:
        pipeline.hset(keys.profile(member), mapping=record)
        pipeline.expire(keys.profile(member), KEPT_FOR)
        pipeline.zadd(keys.PROFILES, {member: now})
        pipeline.zremrangebyscore(keys.PROFILES, 0, now - KEPT_FOR)
        pipeline.expire(keys.PROFILES, KEPT_FOR)
        pipeline.zcard(keys.PROFILES)
        count = pipeline.execute()[-1]
    if count > KEPT:
        oldest: Any = client.zpopmin(keys.PROFILES, count - KEPT)
        client.unlink(*(keys.profile(as_text(each)) for each, _ in oldest))


# --- read from Redis -------------------------------------------------------------------------


def of(client: Redis, job_id: str) -> list[Profile]:
    """Return the profiles of one job that are still kept, the newest first. Two round trips; one if there are none."""
    members = _members(client)
    return _read(client, [member for member in members if member.rpartition(":")[0] == job_id])


def recent() -> list[Profile]:
    """Return all profiles that are kept, the newest first. Two round trips a server."""
    profiles = [profile for client in servers() for profile in _read(client, _members(client))]
    return sorted(profiles, key=lambda profile: profile.at, reverse=True)


def flame_graph(job_id: str, attempt: int) -> str | None:
    """Return an attempt's flame graph, an HTML page with its own scripts. None if it does not exist any more."""
    for client in servers():
        graph: Any = client.hget(keys.profile(f"{job_id}:{attempt}"), "graph")
        if graph:
            with contextlib.suppress(zlib.error):  # none of ours
                return _inflated(graph)
    return None


def _members(client: Redis) -> list[str]:
    members: Any = client.zrevrange(keys.PROFILES, 0, KEPT - 1)
    return [as_text(member) for member in members]


def _read(client: Redis, members: Sequence[str]) -> list[Profile]:
    if not members:
        return []
    with client.pipeline(transaction=False) as pipeline:
        for member in members:
            pipeline.hmget(keys.profile(member), "command", "at", "seconds", "samples", "ended", "cut", "summary")
            pipeline.hstrlen(keys.profile(member), "graph")
        answers = pipeline.execute()
    records = zip(members, answers[::2], answers[1::2], strict=True)
    found = []
    for member, record, size in records:
        with contextlib.suppress(ValueError, TypeError, zlib.error):  # expired meanwhile, or none of ours
            found.append(_profile(member, record, bool(size)))
    return found


def _profile(member: str, record: Sequence[bytes], has_graph: bool) -> Profile:
    command, at, seconds, samples, ended, cut, summary = record
    job_id, _, attempt = member.rpartition(":")
    return Profile(
        job_id=job_id,
        attempt=int(attempt),
        command=as_text(command),
        at=moment(float(at)),
        seconds=float(seconds),
        samples=int(samples),
        ended=as_text(ended),
        cut=as_text(cut),
        summary=_inflated(summary),
        has_graph=has_graph,
    )


def _inflated(data: bytes) -> str:
    return zlib.decompressobj().decompress(data, LARGEST_INFLATED).decode(errors="replace")
