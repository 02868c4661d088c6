"""Samples of the queues' lengths and latencies, one a minute."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from jobs import conf, runtime
from jobs.broker import keys
from jobs.broker.connections import by_server, servers
from jobs.broker.times import MINUTE, as_text, number_of, time_of
from jobs.inspection.attempt_counts import COUNTS_KEPT


@dataclass(frozen=True, slots=True)
class Sample:
    """A queue at one time: its length, its latency (seconds that the first job had waited), and its running jobs."""

    length: int
    latency: float
    running: int = 0


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
        answers: list[Any] = pipeline.execute()
        for first in answers[1::3]:
            pipeline.hget(keys.job(as_text(first or b"")), "enqueued_at")
        times = pipeline.execute(raise_on_error=False)  # the first job's key may not be a hash
    samples: dict[str, Sample] = {}
    for name, length, running, text in zip(names, answers[::3], answers[2::3], times, strict=True):
        since = time_of(text) if isinstance(text, bytes) else None
        samples[name] = Sample(length, max(0.0, runtime.now() - since.timestamp()) if since else 0.0, running)
    return samples


def collect() -> None:
    """Store the result of `measure` under the current minute."""
    for client in servers():
        collect_on(client)


def collect_on(client: Redis) -> None:
    """Do it for the queues of one server."""
    key = keys.samples(int(runtime.now()) // MINUTE)
    samples = _measure(client, by_server(conf.queues()).get(client, []))
    texts: dict[Any, Any] = {name: f"{sample.length} {sample.latency:.3f}" for name, sample in samples.items()}
    with client.pipeline() as pipeline:
        pipeline.hset(key, mapping=texts)
        pipeline.expire(key, COUNTS_KEPT)
        pipeline.execute()


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


def lengths_before(minutes: int) -> tuple[float, dict[str, int]] | None:
    """
    Return the age of a sample in seconds, and the length of each queue in it. The sample is `minutes` old, or up to
    three minutes older. Returns None if there is none. One round trip a server.
    """
    now = time.time()
    minutes_back = [int(now // 60) - minutes - more for more in range(4)]
    lengths: dict[int, dict[str, int]] = {}
    for client in by_server(conf.queues()):
        with client.pipeline(transaction=False) as pipeline:
            for minute in minutes_back:
                pipeline.hgetall(keys.samples(minute))
            for minute, fields in zip(minutes_back, pipeline.execute(), strict=True):
                of_queue = {as_text(name): int(number_of(text.partition(b" ")[0])) for name, text in fields.items()}
                lengths.setdefault(minute, {}).update(of_queue)
    for minute in minutes_back:
        if lengths.get(minute):
            return now - minute * 60, lengths[minute]
    return None
