"""A server that goes away and comes back, the rows of the outbox, and attempts at one job at the same time."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from django.db import connections

from jobs import execution
from jobs.attempts.interrupt import Interruptible
from jobs.models import Unsent
from jobs.outbox import hooks
from jobs.outbox.relay import send_all
from jobs.worker.surroundings import new_context
from tests.sample.commands.atomic import WriteOnce


@pytest.fixture(autouse=True)
def forget_failures() -> Iterator[None]:
    """What a test did to the server does not make the next one leave its jobs to the relay."""
    hooks._failed.clear()
    hooks._noted.clear()
    yield
    hooks._failed.clear()


@pytest.fixture
def relay() -> Callable[[], int]:
    """Send all rows, as a worker does after two seconds. Returns how many there were."""

    def send() -> int:
        hooks._failed.clear()
        return send_all()

    return send


@pytest.fixture
def rows() -> Callable[[], list[str]]:
    """The ids of the jobs in the outbox, in the order of the rows."""
    return lambda: list(Unsent.objects.order_by("id").values_list("job_id", flat=True))


@pytest.fixture(autouse=True)
def calls():
    WriteOnce.calls.clear()
    return WriteOnce.calls


class AttemptInThread(threading.Thread):
    """An attempt at a claim, as a worker's thread makes it; `ended` has its outcome."""

    def __init__(self, claim):
        super().__init__()
        self.claim, self.interruptible, self.ended = claim, Interruptible(), None
        claim.started = time.monotonic()
        self.start()

    def run(self):
        try:
            self.ended = new_context().run(execution.attempt, self.claim, self.interruptible)
        finally:
            connections.close_all()

    def result(self):
        self.join(60)
        return self.ended.outcome


@pytest.fixture
def claim_again(worker):
    """Claim a job whose worker is taken for dead, though its attempt may go on."""

    def claim():
        worker.fetch.put_back_running()
        worker.fetch._steps.held.clear()
        return worker.claim()

    return claim


@pytest.fixture
def die_after_commit(worker, claim_again):
    """Make an attempt whose worker dies before the outcome is in Redis: its job is back in its queue."""

    def die():
        attempt = AttemptInThread(worker.claim())
        outcome = attempt.result()
        worker.fetch.put_back_running()
        worker.fetch._steps.held.clear()
        return outcome

    return die
