"""What the jobs do: the same few functions in every system."""

import functools
import os
import random
import threading
import time

from redis import Redis

ANSWERS = "bench:answers"  # the list where `answer` and `mixed` put how late they started
BEGUN, BODIES, TURNS = "bench:begun", "bench:bodies", "bench:turns"  # what `begin`, `occupy` and `take_turn` say
TOLD_AT_ONCE = 20  # jobs of `mixed`, so that telling costs a job little
_late: list[float] = []
_telling = threading.Lock()


def noop() -> None:
    """Nothing: what is left is the system's own cost."""


def wait_50ms() -> None:
    """Input and output, as seen by the interpreter: a thread that waits."""
    time.sleep(0.05)


def wait_1ms() -> None:
    """A short job, of which there are many in a backlog."""
    time.sleep(0.001)


def read_row() -> str:
    """One query through the ORM."""
    from django.contrib.auth.models import Group  # Django is loaded for this load alone by most systems

    return Group.objects.get(pk=1).name


def read_row_as_integrations_do() -> None:
    """`read_row` between Django's two connection checks, as the Django integrations of most systems wrap jobs."""
    from django.db import close_old_connections

    close_old_connections()
    try:
        read_row()
    finally:
        close_old_connections()


def answer(sent: float) -> None:
    """Say how many seconds after `sent` this job started; told only after the clock was read."""
    late = time.time() - sent
    connection().rpush(ANSWERS, late)


def mixed(milliseconds: int, sent: float) -> None:
    """A job among short and long ones."""
    started(sent)
    if milliseconds:
        time.sleep(milliseconds / 1_000)


def started(sent: float) -> None:
    """Note how many seconds after `sent` this job started; told in slices, of which the last may stay untold."""
    late = time.time() - sent
    with _telling:
        _late.append(late)
        told = [_late.pop() for _ in range(TOLD_AT_ONCE)] if len(_late) >= TOLD_AT_ONCE else []
    if told:
        connection().rpush(ANSWERS, *told)


def begin() -> None:
    """Say when this job started."""
    connection().rpush(BEGUN, time.time())


def occupy(key: int, number: int) -> None:
    """Say when this body is entered and left; it takes some milliseconds."""
    about = f"{key} {number} {os.getpid()}"
    connection().rpush(BODIES, f"{time.time()} in {about}")
    time.sleep(0.005)
    connection().rpush(BODIES, f"{time.time()} out {about}")


def take_turn(tenant: int) -> None:
    """Say whose job this was."""
    connection().rpush(TURNS, tenant)


def mixture(count: int) -> list[int]:
    """The milliseconds that each of so many jobs takes: 90 % none, 9 % 5 and 1 % 200, shuffled always alike."""
    milliseconds = ([0] * 90 + [5] * 9 + [200]) * -(-count // 100)
    random.Random(count).shuffle(milliseconds)
    return milliseconds[:count]


@functools.cache
def connection() -> Redis:
    """The benchmark's own connection, apart from those of the system that it measures."""
    # By default some releases of redis-py wait 5 s alone, and a worker may take longer to start.
    return Redis.from_url(os.environ["REDIS_URL"], socket_timeout=None)
