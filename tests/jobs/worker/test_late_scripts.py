"""A command that a worker has stopped waiting for may still reach the server while the worker does other things."""

import pytest
from redis.exceptions import TimeoutError as RedisTimeoutError

from jobs.attempts.outcomes import Finished
from jobs.worker.connection import Wire
from tests.jobs.worker.test_step import claim_all, finish
from tests.sample.commands.notes import WriteNote


class LateWire(Wire):
    """While `slow` is set, commands arrive only with `deliver`, and their answers are dropped."""

    slow = False

    def __init__(self, queue):
        super().__init__(queue)
        self._late = []

    def start(self, *words):
        if self.slow:
            self._late.append(words)
            raise RedisTimeoutError("no answer in time")
        super().start(*words)

    def deliver(self):
        for words in self._late:
            Wire("default").run(*words)
        self._late.clear()


@pytest.fixture
def late(new_fetch):
    """A fetch of two threads, and its connection."""
    fetch = new_fetch("w1", threads=2)
    fetch._wire = fetch._steps._wire = LateWire("default")
    assert claim_all(fetch) == []
    return fetch


def lose(fetch):
    fetch._wire.slow = True
    with pytest.raises(RedisTimeoutError):
        fetch._step(claims=True)
    fetch._wire.slow = False


def test_jobs_claimed_by_a_step_that_arrives_late_are_given_back(late, places, monkeypatch):
    jobs = WriteNote.defer_many([(str(n),) for n in range(4)])
    lose(late)
    first = claim_all(late)
    late._wire.deliver()  # it claims the other two
    assert [place for (place,) in places().values()] == ["wip:default"] * 4

    for claim in first:
        finish(late, claim, Finished(None, 500))
    monkeypatch.setattr(late._steps, "_reconcile_at", 0.0)  # the half minute passes
    again = claim_all(late)

    assert {claim.job_id for claim in first} == {job.id for job in jobs[:2]}
    assert {claim.job_id for claim in again} == {job.id for job in jobs[2:]}
    assert len({claim.execution for claim in first + again}) == 4
    assert set(late.held) == {claim.execution for claim in again}


def test_a_late_search_for_lost_claims_leaves_new_ones_alone(late, places):
    WriteNote.defer_many([(str(n),) for n in range(2)], queue="critical")
    late._steps._in_doubt = True
    lose(late)  # the look at the first queue, before anything else
    assert claim_all(late)
    late._wire.deliver()

    assert [place for (place,) in places().values()] == ["wip:critical"] * 2
