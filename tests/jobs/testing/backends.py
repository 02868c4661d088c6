"""Two ways to run jobs, with one small interface: the testing kit, and a real worker on a real server."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any

import orjson
from redis import Redis

from jobs import conf
from jobs.testing import Kit
from tests.processes import wait_until


class KitBackend:
    """`kit`: the jobs of this test are in memory, in the transaction of a TestCase."""

    def __init__(self, kit: Kit, committing: Callable[..., AbstractContextManager[Any]]) -> None:
        self._kit = kit
        self._committing = committing

    def perform(self) -> None:
        """Perform the due jobs, and the jobs that become due by that."""
        while self._kit.perform_enqueued_jobs():
            pass

    def travel(self, seconds: float) -> None:
        """Let time pass without a worker, and perform the jobs due by then."""
        self._kit.perform_enqueued_jobs(at=datetime.fromtimestamp(self._kit.now() + seconds, UTC))
        self.perform()

    def now(self) -> float:
        return self._kit.now()

    def committing(self) -> AbstractContextManager[Any]:
        """A block after which the code under test's own callbacks have been called, as after a commit."""
        return self._committing(execute=True)


class ServerBackend:
    """`server`: a worker process runs them as they come."""

    def __init__(self, client: Redis, worker: bytes) -> None:
        self._client = client
        client.zadd("jobs:workers", {worker: time.time()})  # the server has been emptied since it last beat

    def perform(self) -> None:
        wait_until(self._is_quiet, timeout=20)

    def travel(self, seconds: float) -> None:
        """Make the times in the server older."""
        self.perform()
        for key in self._client.scan_iter("rq:job:*"):
            self._age(key, seconds)
        for pattern in ("rq:job:*", "rq:results:*", "jobs:unique:*", "jobs:gone:*"):
            for key in self._client.scan_iter(pattern):
                if (left := self._client.pttl(key)) > 0:
                    self._client.pexpire(key, int(left - seconds * 1_000))  # gone at once when that is in the past
        for queue in conf.queues():
            for job_id, due in self._client.zrange(f"rq:scheduled:{queue}", 0, -1, withscores=True):
                self._client.zadd(f"rq:scheduled:{queue}", {job_id: due - seconds})
        self.perform()

    def now(self) -> float:
        return time.time()

    def committing(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def _is_quiet(self) -> bool:
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.scard("jobs:releasing")
            for queue in conf.queues():
                pipeline.llen(f"rq:queue:{queue}")
                pipeline.zcard(f"rq:wip:{queue}")
                pipeline.zcount(f"rq:scheduled:{queue}", "-inf", time.time())
            return not any(pipeline.execute())

    def _age(self, key: bytes, seconds: float) -> None:
        for field in ("due", "expires_at", "latest"):
            if value := self._client.hget(key, field):
                self._client.hset(key, field, repr(float(value) - seconds))
        if value := self._client.hget(key, "progress"):
            progress = orjson.loads(value)
            progress["since"] = {what: at - seconds for what, at in progress.get("since", {}).items()}
            self._client.hset(key, mapping={"progress": orjson.dumps(progress), "more": 1})


Backend = KitBackend | ServerBackend
