"""What each thread of a process is doing just now, as a text that the dashboard shows for some minutes."""

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
    """The stack of every thread, the innermost call last; of those that run a job, with its id."""
    frames = sys._current_frames()
    claims = {thread.ident: claim for thread in threads if (claim := thread.claim) is not None}
    told = [f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"]
    for thread in sorted(threading.enumerate(), key=lambda each: each.ident not in claims):
        claim, frame = claims.get(thread.ident), frames.get(thread.ident or 0)
        runs = f", job {claim.job_id} in {claim.queue_name}" if claim else ""
        lines = "".join(traceback.format_stack(frame)) if frame else "(it has ended)\n"
        told.append(f"Thread {thread.name}{runs}\n{lines}")
    return sendable("\n".join(told)[:LONGEST])


def show(client: Redis, worker: str, threads: Iterable[JobThread]) -> None:
    """Put them where the dashboard looks. Raises redis-py's errors."""
    client.set(keys.stacks(worker), stacks(threads), ex=KEPT_FOR)
