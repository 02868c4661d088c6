"""
Runs ended steps of a flow again, each after those before it that run again, too.

The flow first says which steps these are, in one step of the server. Then each step is enqueued, or waits, once. If the
process of the person dies, a worker's parent goes on.
"""

from collections import deque
from collections.abc import Collection, Mapping

import orjson
from redis import Redis

from jobs import control
from jobs.batches import record
from jobs.job import MandateJob

Graph = Mapping[str, list[str]]  # the id of each step, and of those before it


def begin(client: Redis, batch_id: str, graph: Graph, first: str, *, any_end: Collection[str]) -> None:
    """
    Have a step and all steps after it run again. `any_end`: those that do not need a good end of the steps before them.
    Raises BatchNotFoundError, RedisUnavailableError.
    """
    steps = {first: b""}
    for job_id, before in graph.items():
        if job_id != first and any(each in steps for each in before):
            steps[job_id] = orjson.dumps({"waits": before, "any": job_id in any_end})
    record.run_again(client, batch_id, steps)


def carry_on(client: Redis, batch_id: str) -> int:
    """
    Enqueue the steps that are to run again, in the order of their edges. Returns how many were enqueued or wait; 0 at
    once for a flow without any. Raises RedisUnavailableError, and BatchNotFoundError if the flow is gone meanwhile.
    """
    steps = record.steps_to_run_again(client, batch_id)
    if not steps:
        return 0
    number = 0
    for job_id in in_order({each: _waits(lacked) for each, lacked in steps.items()}):
        number += control.run_again(MandateJob.handle(job_id, "", b"", client), batch_id)
    record.seal(client, batch_id, record.AGAIN)
    return number


def in_order(graph: Graph) -> dict[str, list[str]]:
    """Return the same with each step after those that it waits for."""
    left = {job_id: len([each for each in first if each in graph]) for job_id, first in graph.items()}
    after: dict[str, list[str]] = {}
    for job_id, first in graph.items():
        for each in first:
            after.setdefault(each, []).append(job_id)
    ready = deque(sorted(job_id for job_id, number in left.items() if not number))
    ordered: dict[str, list[str]] = {}
    while ready:
        job_id = ready.popleft()
        ordered[job_id] = graph[job_id]
        for each in after.get(job_id, ()):
            left[each] -= 1
            if not left[each]:
                ready.append(each)
    return ordered


def _waits(lacked: bytes) -> list[str]:
    try:
        return list(map(str, orjson.loads(lacked)["waits"])) if lacked else []
    except (ValueError, TypeError, KeyError):  # tampered with
        return []
