"""A worker's fetch in this process, and the keys in the server after it."""

import time

import pytest

from jobs.worker.fetch import Fetch
from jobs.worker.scoreboard import Board


@pytest.fixture
def new_fetch(valkey):
    """`new_fetch("w1", threads=3)`: the fetch of a worker that is registered and has just beaten."""

    fetches = []

    def new(name, *, threads=3, queues=("critical", "default", "low"), weights=None, **options):
        with valkey.client() as client:
            client.zadd("jobs:workers", {name: time.time()})
        order = dict(zip(queues, weights or [None] * len(queues), strict=True))
        released = options.setdefault("release", lambda job_id, queue: None)
        assert released
        fetches.append(Fetch(name, order, threads=threads, board=Board(threads), blocks=True, **options))
        return fetches[-1]

    yield new
    for fetch in fetches:
        fetch._doorbell.close()
        fetch._wire.close()
