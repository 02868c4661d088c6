"""Publishes the stacks of a process's threads, as a text that the dashboard shows for some minutes."""

import sys
import threading
import traceback
from collections.abc import Iterable
from datetime import UTC, datetime

from redis import Redis

from jobs.broker import keys
from jobs.broker.times import sendable
from jobs.worker.threads import JobThread

KEPT_FOR = 600  # seconds
LONGEST = 65_536  # characters


def stacks(threads: Iterable[JobThread]) -> str:
    """Return the stack of every thread, the innermost call last, with the id of the job that it runs."""
    frames = sys._current_frames()
    claims = {thread.ident: claim for thread in threads if (claim := thread.claim) is not None}
    parts = [f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"]
    for thread in sorted(threading.enumerate(), key=lambda each: each.ident not in claims):
        claim, frame = claims.get(thread.ident), frames.get(thread.ident or 0)
        runs = f", job {claim.job_id} in {claim.queue_name}" if claim else ""
        lines = "".join(traceback.format_stack(frame)) if frame else "(it has ended)\n"
        parts.append(f"Thread {thread.name}{runs}\n{lines}")
    return sendable("\n".join(parts)[:LONGEST])


def show(client: Redis, worker: str, threads: Iterable[JobThread]) -> None:
    """Write the stacks to Redis for the dashboard. Raises redis-py's errors."""
    client.set(keys.stacks(worker), stacks(threads), ex=KEPT_FOR)
