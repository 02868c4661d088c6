"""What the jobs do: the same few functions in every system."""

import functools
import os
import time

from redis import Redis

ANSWERS = "bench:answers"  # the list where `answer` puts how late it started


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


@functools.cache
def connection() -> Redis:
    """The benchmark's own connection, apart from those of the system that it measures."""
    return Redis.from_url(os.environ["REDIS_URL"])
