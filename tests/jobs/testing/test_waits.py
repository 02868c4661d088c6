"""In the kit `job.wait()` performs what is due, and raises where a worker would never come to an end."""

import asyncio

import pytest
from django.db import transaction

from jobs import Mandate
from jobs.errors import JobFailedError, RedisUnavailableError, WaitRefusedError, WaitTimeoutError
from jobs.testing import Kit
from jobs.testing.perform import MOST_RUNS
from tests.sample.commands.kept import KeepSecondTime
from tests.sample.commands.notes import Fail
from tests.sample.commands.talk import Echo
from tests.sample.commands.waiting import Forget, Measure, WaitFor

pytestmark = pytest.mark.django_db


def test_it_performs_the_job_and_returns_its_value(jobs):
    assert Echo.defer((1, 2)).wait(5) == (1, 2)
    assert len(jobs.performed_jobs) == 1


def test_what_the_job_waits_for_is_performed_too(jobs):
    first = Echo.defer(1)
    assert Echo.defer(2, prereq_jobs=[first]).wait() == 2
    assert first.state == "finished"


def test_a_job_that_fails_raises(jobs):
    with pytest.raises(JobFailedError, match="is dead: RuntimeError: no luck"):
        Fail.defer().wait()


def test_a_job_that_is_not_due_raises_clearly(jobs):
    job = Echo.defer(1, wait=60)
    with pytest.raises(WaitTimeoutError, match=r"is scheduled, .* Move the clock on first"):
        job.wait(5)
    jobs.travel(60)
    assert job.wait() == 1

    retrying = KeepSecondTime.defer("fail")
    with pytest.raises(WaitTimeoutError, match="is retrying"):
        retrying.wait()


def test_a_job_that_always_puts_itself_back_raises(jobs, defined):
    @defined
    class Forever(Mandate):
        def call(self) -> None:
            self.requeue_job(0)

    with pytest.raises(WaitTimeoutError, match="nothing that is due is left"):
        Forever.defer().wait()
    assert len(jobs.performed_jobs) == MOST_RUNS


def test_a_job_may_wait_for_another(jobs):
    other = Echo.defer("yes")
    assert WaitFor.defer(other.id, 5.0).wait() == "yes"


def test_what_is_refused_is_refused_here_too(jobs):
    with transaction.atomic():
        job = Echo.defer(1)
        with pytest.raises(WaitRefusedError, match="the open transaction"):
            job.wait()
    assert job.wait() == 1
    with pytest.raises(WaitRefusedError, match="result_ttl = 0"):
        Forget.defer().wait()


def test_while_redis_is_away(jobs):
    job = Echo.defer(1)
    with jobs.redis_away(), pytest.raises(RedisUnavailableError):
        job.wait()


def test_reports_are_there(jobs):
    job = Measure.defer(1_000)
    assert job.wait() == 1_000
    assert job.report[:3] == (1_000, 1_000, "counting")


def test_in_a_coroutine():
    async def main():
        with Kit():
            job = await Echo.adefer([1])
            return await job.await_result(5)

    assert asyncio.run(main()) == [1]
