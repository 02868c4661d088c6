"""A worker's fetch in this process, and the keys in the server after it."""

import time
from functools import partial

import pytest

from jobs.worker.both import FetchForBoth
from jobs.worker.fetch import Fetch
from jobs.worker.scoreboard import Board


@pytest.fixture
def new_fetch(valkey):
    """
    `new_fetch("w1", threads=3)`: the fetch of a worker that is registered and has just beaten. `tasks=20`: one with an
    event loop, which starts none of them.
    """

    fetches = []

    def new(name, *, threads=3, tasks=None, queues=("critical", "default", "low"), weights=None, **options):
        with valkey.client() as client:
            client.zadd("jobs:workers", {name: time.time()})
        order = dict(zip(queues, weights or [None] * len(queues), strict=True))
        released = options.setdefault("release", lambda job_id, queue: None)
        assert released
        make = Fetch if tasks is None else partial(FetchForBoth, tasks=tasks, start=lambda claims: None)
        fetches.append(make(name, order, threads=threads, board=Board(threads, tasks or 0), blocks=True, **options))
        return fetches[-1]

    yield new
    for fetch in fetches:
        fetch._doorbell.close()
        fetch._wire.close()
