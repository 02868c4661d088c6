"""
The process that enqueues: `python -m benchmarks.client huey`, in the environment of that system.

It reads one JSON list a line from its input, `[verb, argument, ...]`, and answers each with one JSON line,
`{"seconds": ...}`, `{"late": [...]}` or `{"error": ...}`. It ends when its input does. A system's module in
`benchmarks.clients` has `enqueue_one(job, n)`, and as far as the system can do it `enqueue_bulk(job, n, queue)`,
`schedule(job, n, when)` and `send_answer(queue, sent)`.
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
            reply = {"late": probe(system, *arguments)} if verb == "probe" else timed(getattr(system, verb), arguments)
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


if __name__ == "__main__":
    main()
