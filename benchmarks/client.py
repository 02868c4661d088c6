"""
The process that enqueues: `python -m benchmarks.client huey`, in the environment of that system.

It reads one JSON list a line from its input, `[verb, argument, ...]`, and answers each with one JSON line,
`{"seconds": ...}`, `{"late": [...]}` or `{"error": ...}`. It ends when its input does. A system's module in
`benchmarks.clients` has `enqueue_one(job, n)`, and as far as the system can do it `enqueue_bulk(job, n, queue)`,
`schedule(job, n, when)`, `send_answer(queue, sent)` and `send_mixed(milliseconds, sent)`.
"""

import importlib
import importlib.metadata
import json
import os
import platform
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import work

SECONDS_TO_ANSWER = 60  # the first answer also waits for the worker to start
LEAST_OF_RATE = 0.8  # that the client must keep, so that the load is the one its figures are of
SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 0.06  # seconds between probes; random, so that no poller beats in time


def main() -> None:
    # Whatever a system prints goes to the log: the replies have a file of their own.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        system = importlib.import_module(f"benchmarks.clients.{sys.argv[1]}")
        reply: dict[str, Any] = {"version": version(system), "python": platform.python_version()}
    except ImportError as error:
        reply = {"error": str(error)}
    print(json.dumps(reply), file=replies, flush=True)
    if "error" in reply:
        return
    for line in sys.stdin:
        verb, *arguments = json.loads(line)
        try:
            if verb in WITH_ANSWERS:
                reply = {"late": WITH_ANSWERS[verb](system, *arguments)}
            else:
                reply = timed(getattr(system, verb), arguments)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


def version(system: Any) -> str | None:
    """The release of the package that the system's module measures; None for the project itself."""
    return importlib.metadata.version(system.PACKAGE) if system.PACKAGE else None


def timed(verb: Callable[..., None], arguments: list[Any]) -> dict[str, float]:
    start = time.perf_counter()
    verb(*arguments)
    return {"seconds": time.perf_counter() - start}


def probe(system: Any, queue: str, count: int) -> list[float]:
    """Enqueue `count` jobs, each after the last one has started. Returns how many seconds after the call each did."""
    late = []
    for _ in range(count):
        system.send_answer(queue, time.time())
        got = work.connection().blpop([work.ANSWERS], timeout=SECONDS_TO_ANSWER)
        if got is None:
            raise TimeoutError(f"A job in {queue!r} did not start within {SECONDS_TO_ANSWER} s.")
        late.append(float(got[1]))
        time.sleep(random.uniform(SHORTEST_PAUSE, LONGEST_PAUSE))
    return late


def steady(system: Any, count: int, rate: float) -> list[float]:
    """
    Enqueue `count` jobs of `work.mixture`, `rate` a second. Returns how many seconds after its call each started, but
    for a last slice that its worker may not have told. With a rate of 0: at once, and nobody waits for them.
    """
    begun = time.perf_counter()
    for number, milliseconds in enumerate(work.mixture(count)):
        if rate and (early := begun + number / rate - time.perf_counter()) > 0:
            time.sleep(early)
        system.send_mixed(milliseconds, time.time())
    if not rate:
        return []
    took = time.perf_counter() - begun
    if took > count / rate / LEAST_OF_RATE:
        raise TimeoutError(
            f"Only {count / took:.0f} jobs a second were enqueued, of {rate:.0f}: the machine is too busy."
        )
    deadline = time.monotonic() + SECONDS_TO_ANSWER
    while (told := work.connection().llen(work.ANSWERS)) <= count - work.TOLD_AT_ONCE:
        if time.monotonic() > deadline:
            raise TimeoutError(f"Only {told} of {count} jobs started within {SECONDS_TO_ANSWER} s.")
        time.sleep(LONGEST_PAUSE)
    return [float(late) for late in work.connection().lrange(work.ANSWERS, 0, -1)]


#: The verbs that return how late jobs started, not how long the verb took.
WITH_ANSWERS: dict[str, Callable[..., list[float]]] = {"probe": probe, "steady": steady}


if __name__ == "__main__":
    main()
