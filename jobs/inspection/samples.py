"""Samples of the queues' lengths and latencies, and of the workers' threads, one a minute."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from redis import Redis

from jobs import conf, runtime
from jobs.broker import keys
from jobs.broker.connections import by_server, servers
from jobs.broker.times import MINUTE, as_text, number_of, time_of
from jobs.inspection import workers
from jobs.inspection.attempt_counts import COUNTS_KEPT
from jobs.inspection.workers import Worker

THREADS = "|threads"  # beside the queues: busy threads, and all; no name of a queue in the counts has this character
SPARE = 3  # minutes without a sample that `lengths_before` passes over


@dataclass(frozen=True, slots=True)
class Sample:
    """A queue at one time: its length, its latency (seconds that the first job had waited), its running jobs."""

    length: int
    latency: float
    running: int = 0
    paused: bool = False


@dataclass(slots=True)
class Minute:
    """What was sampled in a minute. `waits`: seconds that the first job of each queue had waited."""

    start: int  # seconds since the epoch
    lengths: dict[str, int] = field(default_factory=dict)
    waits: dict[str, float] = field(default_factory=dict)
    busy: int = 0  # threads
    threads: int = 0

    @property
    def longest(self) -> tuple[float, str]:
        """The longest wait and its queue; 0 and "" without a sample."""
        return max(((wait, queue) for queue, wait in self.waits.items()), default=(0.0, ""))


def measure() -> dict[str, Sample]:
    """Measure every queue now. Returns the samples in priority order. Three round trips a server."""
    samples: dict[str, Sample] = {}
    for client, names in by_server(conf.queues()).items():
        samples |= _measure(client, names)
    return {name: samples[name] for name in conf.queues()}


def _measure(client: Redis, names: Sequence[str]) -> dict[str, Sample]:
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.llen(keys.queue(name))
            pipeline.lindex(keys.queue(name), 0)
            pipeline.zcard(keys.registry("wip", name))
            pipeline.sismember(keys.PAUSED, name)
        answers: list[Any] = pipeline.execute()
        for first in answers[1::4]:
            pipeline.hget(keys.job(as_text(first or b"")), "enqueued_at")
        times = pipeline.execute(raise_on_error=False)  # the first job's key may not be a hash
    samples: dict[str, Sample] = {}
    for name, length, running, paused, text in zip(
        names, answers[::4], answers[2::4], answers[3::4], times, strict=True
    ):
        since = time_of(text) if isinstance(text, bytes) else None
        samples[name] = Sample(
            length, max(0.0, runtime.now() - since.timestamp()) if since else 0.0, running, bool(paused)
        )
    return samples


def collect() -> None:
    """Store the result of `measure` under the current minute."""
    for client in servers():
        collect_on(client, workers.listed_on(client, jobs=0))


def collect_on(client: Redis, alive: Sequence[Worker] = ()) -> None:
    """Do it for the queues and the workers of one server."""
    key = keys.samples(int(runtime.now()) // MINUTE)
    samples = _measure(client, by_server(conf.queues()).get(client, []))
    texts: dict[Any, Any] = {name: f"{sample.length} {sample.latency:.3f}" for name, sample in samples.items()}
    texts[THREADS] = f"{sum(each.busy for each in alive)} {sum(each.threads for each in alive)}"
    with client.pipeline() as pipeline:
        pipeline.hset(key, mapping=texts)
        pipeline.expire(key, COUNTS_KEPT)
        pipeline.execute()


def last(minutes: int) -> list[Minute]:
    """Return what was sampled in each of the last minutes, the current one included. One round trip a server."""
    this_minute = int(runtime.now()) // MINUTE
    found = [Minute(minute * MINUTE) for minute in range(this_minute - minutes + 1, this_minute + 1)]
    for client in by_server(conf.queues()):
        with client.pipeline(transaction=False) as pipeline:
            for each in found:
                pipeline.hgetall(keys.samples(each.start // MINUTE))
            for minute, fields in zip(found, pipeline.execute(), strict=True):
                of_server = _parsed(tuple(fields.items()))
                minute.lengths |= of_server.lengths
                minute.waits |= of_server.waits
                minute.busy += of_server.busy
                minute.threads += of_server.threads
    return found


@lru_cache(256)  # each view of a page reads the minutes of the last hour
def _parsed(fields: Iterable[tuple[bytes, bytes]]) -> Minute:
    minute = Minute(start=0)
    for name, text in fields:
        first, _, second = text.partition(b" ")
        if as_text(name) == THREADS:
            minute.busy, minute.threads = int(number_of(first)), int(number_of(second))
        else:
            minute.lengths[as_text(name)] = int(number_of(first))
            minute.waits[as_text(name)] = number_of(second)
    return minute


def waits(queues: Sequence[str], minutes: int) -> list[float]:
    """
    Return how long the first job of each of these queues had waited, in seconds, at each sample of the last minutes.
    One round trip a server.
    """
    last, found = int(runtime.now()) // MINUTE, []
    for client, names in by_server(queues).items():
        with client.pipeline(transaction=False) as pipeline:
            for minute in range(last - minutes + 1, last + 1):
                pipeline.hmget(keys.samples(minute), names)
            for texts in pipeline.execute():
                found += [number_of(text.partition(b" ")[2]) for text in texts if text]
    return found


def lengths_before(minutes: int, sampled: Sequence[Minute] = ()) -> tuple[float, dict[str, int]] | None:
    """
    Return the newest sample that is `minutes` old, or up to SPARE minutes older: its age in seconds, and the length of
    each queue. None without such a sample. `sampled`: what `last` has just returned.
    """
    now = time.time()
    newest = int(now // MINUTE) - minutes
    for each in reversed(sampled or last(minutes + SPARE + 1)):
        if each.lengths and 0 <= newest - each.start // MINUTE <= SPARE:
            return now - each.start, each.lengths
    return None
