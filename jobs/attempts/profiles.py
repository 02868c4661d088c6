"""
Profiles attempts: runs pyinstrument in the attempt's own thread, and keeps the profile for a day.

A job that is not profiled runs no code of this module. An error here cannot fail a job that is.
"""

import contextlib
import random
import sys
import zlib
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any

from pyinstrument import Profiler
from pyinstrument.processors import remove_irrelevant_nodes
from pyinstrument.renderers import ConsoleRenderer, HTMLRenderer
from pyinstrument.session import Session
from redis import Redis

from jobs import runtime
from jobs.attempts.current import Attempt
from jobs.broker import keys
from jobs.broker.connections import get_connection, servers
from jobs.broker.times import as_text, moment
from jobs.mandate import Mandate
from jobs.record.history import KEPT_FOR
from jobs.safe_logging import safe_logger

logger = safe_logger("jobs")

KEPT = 200  # profiles on a server; if there are more, the oldest are deleted
SAMPLES = 5_000  # of an attempt at most: one a millisecond, less often in a longer one
LARGEST = 256 * 1_024  # bytes of a flame graph, compressed
LARGEST_INFLATED = 32 * 1_024 * 1_024  # bytes of what was compressed, a flame graph or a summary
TEXT_LENGTH = 20_000  # characters of the summary

NEXT_ONES = 20  # attempts that a worker profiles when a person requests profiles

# Fractions of the total time, tried in this order: a flame graph that is too large leaves out shorter calls.
_CUTS = (0.0, 0.001, 0.01, 0.05)

Run = Callable[[Any, Callable[[], Any]], Any]

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
    Otherwise, and in the testing kit, returns `run` itself.

    The call returns and raises the same as without a profile.
    """
    if runtime.stand_in is not None or not (asked or random.random() < command.profile_rate or _is_next()):
        return run

    def running(claim: Any, call: Callable[[], Any]) -> Any:
        profiler = _Profiler(str(attempt))
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


class _Profiler(Profiler):
    """Keeps fewer than SAMPLES samples: at SAMPLES it drops every other one, and takes half as many from then on."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title
        self._one_in, self._passed, self._unheard = 1, 0, 0.0

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Profile the block, in its thread. Errors of the profiler are only logged."""
        try:
            self.start(target_description=self._title)
        except Exception:  # another profiler runs in this thread
            logger.warning("an attempt could not be profiled", exc_info=True)
        try:
            yield
        finally:
            if self.is_running:
                try:
                    self.stop()
                except Exception:
                    logger.warning("a profile could not be ended", exc_info=True)

    async def awaiting(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Await `call`, and profile it in its loop's thread."""
        with self.watching():
            return await call

    def _sampler_saw_call_stack(self, call_stack: list[str], time_since_last_sample: float, async_state: Any) -> None:
        self._passed += 1
        self._unheard += time_since_last_sample
        if self._passed % self._one_in or self._active_session is None:
            return
        # Each sample brings new strings for the names of its frames.
        stack, spent, self._unheard = [sys.intern(frame) for frame in call_stack], self._unheard, 0.0
        super()._sampler_saw_call_stack(stack, spent, async_state)
        records = self._active_session.frame_records
        if len(records) >= SAMPLES:
            self._one_in *= 2
            records[:] = [
                (stack, before + spent)
                for (_, before), (stack, spent) in zip(records[::2], records[1::2], strict=False)
            ]


# --- kept in Redis ---------------------------------------------------------------------------


def _keep(profiler: Profiler, attempt: Attempt, ended: str) -> None:
    session = profiler.last_session
    if session is None:
        return
    claim = attempt.claim
    try:
        graph, cut = _flame_graph(session)
        record: dict[Any, Any] = {
            "command": attempt.command,
            "at": repr(session.start_time),
            "seconds": repr(session.duration),
            "samples": session.sample_count,
            "ended": ended,
            "cut": cut,
            "summary": zlib.compress(_summary(session).encode(errors="replace")),
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


def _flame_graph(session: Session) -> tuple[bytes, str]:
    """Return the compressed page, empty if it cannot be drawn, and a sentence about what was left out."""
    for part in _CUTS:
        renderer = HTMLRenderer()
        if part:
            renderer.preprocessors = [remove_irrelevant_nodes]
            renderer.preprocessor_options = {"filter_threshold": part}
        try:
            graph = zlib.compress(renderer.render(session).encode(errors="replace"))
        except RecursionError:
            return b"", "Its calls are nested too deeply for a flame graph."
        if len(graph) <= LARGEST:
            return graph, f"Calls that took less than {part:.1%} of the time were left out." if part else ""
    return b"", "Its flame graph was too large, and left out."


class _Summary(ConsoleRenderer):
    def render_preamble(self, session: Session) -> str:
        return ""  # the page shows the same facts already


def _summary(session: Session) -> str:
    text = _Summary(unicode=True, color=False).render(session).strip()
    return text if len(text) <= TEXT_LENGTH else f"{text[:TEXT_LENGTH]}\n... ({len(text):,} characters)"


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
