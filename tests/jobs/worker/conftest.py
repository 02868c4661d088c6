"""A worker's fetch in this process, and what lies in the server after it."""

import time

import pytest

from jobs.worker.board import Board
from jobs.worker.fetch import Fetch


@pytest.fixture
def new_fetch(valkey):
    """`new_fetch("w1", threads=3)`: the fetch of a worker that is registered and has just beaten."""

    def new(name, *, threads=3, queues=("critical", "default", "low"), weights=None, **options):
        with valkey.client() as client:
            client.zadd("jobs:workers", {name: time.time()})
        order = dict(zip(queues, weights or [None] * len(queues), strict=True))
        released = options.setdefault("release", lambda job_id, queue: None)
        assert released
        return Fetch(name, order, threads=threads, board=Board(threads), blocks=True, **options)

    return new


@pytest.fixture
def places(valkey):
    """Where each job is: `places()["<id>"] == ["queue:default"]`."""

    def look():
        found = {}
        with valkey.client() as client:
            for key in client.scan_iter("rq:*"):
                name = key.decode().removeprefix("rq:")
                kind = name.partition(":")[0]
                if kind == "queue":
                    members = client.lrange(key, 0, -1)
                elif kind in {"wip", "scheduled", "finished", "failed", "canceled", "deferred"}:
                    members = client.zrange(key, 0, -1)
                else:
                    continue
                for member in members:
                    found.setdefault(member.decode().partition(":")[0], []).append(name)
        return found

    return look
