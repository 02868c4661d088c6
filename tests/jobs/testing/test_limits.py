"""The kit enforces limits, turns and pauses by the scripts that a worker runs, on its own clock."""

import pytest

from jobs import Rate, limit
from jobs.errors import OverLimitError
from jobs.limits import control
from tests.sample.commands.limited import OneAtATime, Rated, SlowsDown, Turn, TwoOrNone
from tests.sample.commands.notes import WriteNote

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def committed(django_capture_on_commit_callbacks):
    """Jobs are enqueued at once, as after a commit."""
    with django_capture_on_commit_callbacks(execute=True) as _:
        yield


def states(jobs):
    return [job.state for job in jobs]


def test_a_rate_holds_until_the_clock_has_moved(jobs):
    rated = [Rated.defer(number) for number in range(5)]

    assert jobs.perform_enqueued_jobs() == 2
    assert states(rated) == ["finished"] * 2 + ["limited"] * 3
    assert jobs.travel(20) == 0
    assert jobs.travel(11) == 1
    assert jobs.travel(60) == 2
    assert states(rated) == ["finished"] * 5


def test_jobs_of_one_slot_run_one_after_the_other(jobs):
    one = [OneAtATime.defer(number) for number in range(3)]

    assert jobs.perform_enqueued_jobs() == 3
    assert [recorded.kwargs or recorded.args for recorded in jobs.performed_jobs] == [(0,), (1,), (2,)]
    assert states(one) == [None] * 3
    assert jobs.perform_enqueued_jobs() == 0


def test_a_slot_of_a_limit_that_discards(jobs):
    two = [TwoOrNone.defer() for _ in range(3)]

    jobs.perform_enqueued_jobs()

    assert states(two) == ["finished"] * 3  # one runs at a time


def test_tenants_take_turns(jobs):
    for number in range(2):
        Turn.defer("a", number)
    Turn.defer("b")

    jobs.perform_enqueued_jobs()

    assert [recorded.args[0] for recorded in jobs.performed_jobs] == ["a", "b", "a"]


def test_a_job_slows_down(jobs):
    first, second = SlowsDown.defer("a"), SlowsDown.defer("a", "no")

    assert jobs.perform_enqueued_jobs() == 1
    assert states([first, second]) == ["limited", "limited"]
    assert "the next may start at" in first.reason
    assert jobs.travel(20) == 0
    jobs.travel(11)
    assert first.state == "limited"  # once more


def test_a_pause(jobs):
    job = OneAtATime.defer(1)
    control.pause("sample.OneAtATime:concurrency:")
    assert jobs.perform_enqueued_jobs() == 0
    assert job.state == "limited"

    control.resume("sample.OneAtATime:concurrency:")
    assert jobs.perform_enqueued_jobs() == 1


def test_a_paused_command(jobs):
    job = WriteNote.defer("x")
    control.pause("sample.WriteNote")
    assert jobs.perform_enqueued_jobs() == 0
    assert (job.state, job.reason) == ("limited", "sample.WriteNote is paused")

    control.resume("sample.WriteNote")
    assert jobs.perform_enqueued_jobs() == 1
    assert job.state == "finished"


def test_a_rate_in_a_view(jobs):
    with limit("api", Rate(1, per=60), wait=0):
        pass
    with pytest.raises(OverLimitError), limit("api", Rate(1, per=60), wait=0):
        pytest.fail("the block has begun")
    jobs.travel(61)
    with limit("api", Rate(1, per=60), wait=0):
        pass
