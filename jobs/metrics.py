"""Figures of the queues over time: samples of their lengths and latencies, one a minute."""

import time
from dataclasses import dataclass
from typing import Any

from rq.defaults import RQ_KEY_PREFIX
from rq.utils import str_to_date

from jobs import conf
from jobs.connections import by_server

_TARGETS, _OTHERS_TARGET = {"critical": 1.0}, 60.0  # seconds

KEPT_FOR = 73 * 3_600  # seconds that a sample is kept: 72 hours of charts


@dataclass(frozen=True, slots=True)
class Sample:
    """A queue at one time: how many jobs waited in it, and how many seconds the first of them had."""

    length: int
    latency: float


def target(queue: str) -> float:
    """Seconds that the first job of a queue may have waited before something is wrong."""
    return _TARGETS.get(queue, _OTHERS_TARGET)


def measure() -> dict[str, Sample]:
    """Each queue as it is now, in priority order; three round trips a server."""
    found: dict[str, Sample] = {}
    for client, names in by_server(conf.queues()).items():
        with client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.llen(f"{RQ_KEY_PREFIX}:queue:{name}")
                pipeline.lindex(f"{RQ_KEY_PREFIX}:queue:{name}", 0)
            answers: list[Any] = pipeline.execute()
            for first in answers[1::2]:
                pipeline.hget(f"{RQ_KEY_PREFIX}:job:{(first or b'').decode()}", "enqueued_at")
            times = pipeline.execute()
        for name, length, enqueued_at in zip(names, answers[::2], times, strict=True):
            found[name] = Sample(length, max(0.0, time.time() - _seconds(enqueued_at)) if enqueued_at else 0.0)
    return {name: found[name] for name in conf.queues()}


def collect() -> None:
    """Keep what `measure` finds, under this minute."""
    key = f"jobs:samples:{int(time.time() // 60)}"
    samples = measure()
    for client, names in by_server(samples).items():
        texts: dict[Any, Any] = {name: f"{samples[name].length} {samples[name].latency:.3f}" for name in names}
        with client.pipeline() as pipeline:
            pipeline.hset(key, mapping=texts)
            pipeline.expire(key, KEPT_FOR)
            pipeline.execute()


def _seconds(iso: bytes) -> float:
    return str_to_date(iso).timestamp()
