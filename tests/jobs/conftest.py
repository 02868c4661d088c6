"""A worker in the test's own process: the real scripts and the real attempt, one job at a time, and no waiting."""

import time
from collections.abc import Iterator

import pytest

from jobs import execution
from jobs.attempts.claim import Claim
from jobs.attempts.interrupt import Interruptible
from jobs.broker.connections import get_connection
from jobs.worker.connection import Wire
from jobs.worker.fetch import Fetch
from jobs.worker.promotion import Promotion
from jobs.worker.release import release
from jobs.worker.scoreboard import Board
from jobs.worker.surroundings import new_context

pytest.register_assert_rewrite("tests.jobs.stored_jobs")

QUEUES = ("critical", "default", "mailers", "background", "low")


@pytest.fixture
def one_minute() -> None:
    """No minute ends during the test: what is counted by the minute is in one, and nothing is added up meanwhile."""
    left = 60 - time.time() % 60
    if left < 6:
        time.sleep(left)


class InlineWorker:
    """Claims, runs and commits as a worker process does, in this thread. `attempts` counts what it ran."""

    def __init__(self, name: str = "inline") -> None:
        self.client = get_connection("default")
        self.fetch = Fetch(
            name,
            dict.fromkeys(QUEUES),
            threads=1,
            board=Board(1),
            blocks=True,
            release=lambda member: release(self.client, member),
        )
        self.promotion = Promotion(Wire("default"))
        self.name, self.attempts, self.is_closed = name, 0, False

    def claim(self) -> Claim | None:
        """Take the next job, if one is due."""
        self.client.zadd("jobs:workers", {self.name: time.time()})
        self._look()
        return self.fetch._ready.popleft() if self.fetch.has_ready else None

    def step(self) -> bool:
        """Run the next job, if one is due. Whether there was one."""
        claim = self.claim()
        if claim is None:
            return False
        claim.started = time.monotonic()
        outcome, command = new_context().run(execution.attempt, claim, Interruptible())
        self.attempts += 1
        self.fetch.commits.add(claim, outcome, command, time.monotonic() - claim.started)
        self._look(claims=False)
        return True

    def run(self) -> int:
        """Run what is due, and what becomes due by that. Returns how many attempts that took."""
        before = self.attempts
        self.promotion.run(QUEUES)
        while self.step():
            self.promotion.run(QUEUES)
        return self.attempts - before

    def hurry(self) -> "InlineWorker":
        """Let the time pass that scheduled and retrying jobs have to wait."""
        for queue in QUEUES:
            for job_id in self.client.zrange(f"rq:scheduled:{queue}", 0, -1):
                self.client.zadd(f"rq:scheduled:{queue}", {job_id: 1})
        return self

    def close(self) -> None:
        """Let go of its connections and pipes, for a test that needs hundreds of workers."""
        if not self.is_closed:
            self.is_closed = True  # what is closed twice may be somebody else's file by then
            self.fetch._wire.close()
            self.promotion._wire.close()
            self.fetch._doorbell.close()

    def _look(self, *, claims: bool = True) -> None:
        for member in self.fetch._step(claims=claims):
            release(self.client, member)


@pytest.fixture
def worker(valkey) -> Iterator[InlineWorker]:
    worker = InlineWorker()
    yield worker
    worker.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """What commands log need be no text; pytest-xdist sends nothing else on."""
    report = yield
    report.sections = [(title, text.encode(errors="replace").decode()) for title, text in report.sections]
    return report
