"""
Where the time of one attempt went: pyinstrument in the attempt's own thread, and what it found, kept for a day.

Nothing here is reached by a job that is not profiled, and nothing here can fail one that is.
"""

import random
import sys
import zlib
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
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
from jobs.telling import teller

logger = teller("jobs")

KEPT = 200  # profiles on a server; of more the oldest go
SAMPLES = 5_000  # of an attempt: one a millisecond, and fewer of a longer one
LARGEST = 256 * 1_024  # bytes of a flame graph, compressed
TEXT_LENGTH = 20_000  # characters of the summary

NEXT_ONES = 20  # attempts of a worker that are profiled when a person asks it for profiles

# Parts of the whole time: what is left out of a flame graph that is too large, less of it first.
_CUTS = (0.0, 0.001, 0.01, 0.05)

Run = Callable[[Any, Callable[[], Any]], Any]

next_ones = 0  # attempts in this process that are still to be profiled, whatever they are
_taking = Lock()


def want_next_ones() -> None:
    """Profile the next NEXT_ONES attempts in this process. It draws a graph for each, so it is slower meanwhile."""
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
    """What is known of one attempt's profile; the flame graph itself is fetched by `flame_graph`."""

    job_id: str
    attempt: int
    command: str
    at: datetime
    seconds: float
    samples: int
    ended: str  # "finished", or the class of what it raised
    cut: str  # what was left out, in a sentence, or ""
    summary: str
    has_graph: bool


def profiled(run: Run, attempt: Attempt, command: Mandate, *, asked: bool) -> Run:
    """
    How to run a call so that it is profiled; `run` itself, if it was not asked for and chance is against it.

    The call returns or raises what it would have. In the testing kit nothing is profiled.
    """
    if runtime.stand_in is not None or not (asked or random.random() < command.profile_rate or _is_next()):
        return run

    def running(claim: Any, call: Callable[[], Any]) -> Any:
        profiler = _Profiler(str(attempt))
        ended = "finished"
        try:
            if command.is_async:  # in the thread of its loop, and there the time-out comes between two steps
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
    """
    Keeps so many samples at the most: when it has them, it forgets every other one and from then on takes half as many.
    """

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title
        self._one_in, self._passed, self._unheard = 1, 0, 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Run while the block does, in its thread. What goes wrong with that is logged, and nothing else."""
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
        """`call`, watched while it runs in the loop."""
        with self.watching():
            return await call

    def _sampler_saw_call_stack(self, call_stack: list[str], time_since_last_sample: float, async_state: Any) -> None:
        self._passed += 1
        self._unheard += time_since_last_sample
        if self._passed % self._one_in or self._active_session is None:
            return
        # Each sample has the names of its frames anew.
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
    except Exception:  # the attempt is what it was, whatever becomes of its profile
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
    """The page, compressed, and what was left out of it."""
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
        return ""  # what it says stands on the page already


def _summary(session: Session) -> str:
    text = _Summary(unicode=True, color=False).render(session).strip()
    return text if len(text) <= TEXT_LENGTH else f"{text[:TEXT_LENGTH]}\n... ({len(text):,} characters)"


# --- read again ------------------------------------------------------------------------------


def of(client: Redis, job_id: str) -> list[Profile]:
    """The profiles of one job that are still kept, the newest first; two round trips, one if there are none."""
    members = _members(client)
    return _read(client, [member for member in members if member.rpartition(":")[0] == job_id])


def recent() -> list[Profile]:
    """All that are kept, the newest first; two round trips a server."""
    found = [profile for client in servers() for profile in _read(client, _members(client))]
    return sorted(found, key=lambda profile: profile.at, reverse=True)


def flame_graph(job_id: str, attempt: int) -> str | None:
    """The page that shows one, HTML with scripts of its own; None when there is none, or none any more."""
    for client in servers():
        graph: Any = client.hget(keys.profile(f"{job_id}:{attempt}"), "graph")
        if graph:
            return zlib.decompress(graph).decode()
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
    known = zip(members, answers[::2], answers[1::2], strict=True)
    return [_profile(member, record, bool(size)) for member, record, size in known if record[0] is not None]


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
        summary=zlib.decompress(summary).decode(),
        has_graph=has_graph,
    )
