"""Limits in the scripts: slots, lanes and rates, each step by itself on a server."""

import asyncio
import time
from math import inf

import pytest
from django.utils import timezone

from jobs import Rate, control, execution, limit, queues
from jobs.attempts.interrupt import Interruptible
from jobs.attempts.outcomes import Amended, Finished, GivenBack, Retried, SlowedDown
from jobs.broker import keys
from jobs.broker.connections import get_connection, run_script
from jobs.broker.times import iso
from jobs.errors import ChangeRefusedError, LimitError, OverLimitError
from jobs.retries import Progress
from jobs.worker.lanes import _LANES
from jobs.worker.release import release
from tests.sample.commands.limited import (
    AsksAwait,
    AsksInside,
    ByMethod,
    NeedsA,
    NeedsB,
    NeedsBoth,
    OneAtATime,
    OnePerShop,
    Rated,
    SlowsDown,
    TwoOrNone,
)
from tests.sample.commands.notes import WriteNote

ONE = "sample.OneAtATime:concurrency:="


def claim_all(fetch):
    fetch._step(claims=True)
    claims = list(fetch._ready)
    fetch._ready.clear()
    return claims


def finish(fetch, *claims, outcome=None):
    for claim in claims:
        fetch.commits.add(claim, outcome or Finished(None, 0), "sample.OneAtATime", 0.001)


def ids(claims):
    return [claim.job_id for claim in claims]


def kept():
    """What the server holds of limits."""
    beginnings = ("jobs:slots", "jobs:holds", "jobs:lane", "jobs:limit")
    return sorted(key.decode() for key in get_connection("default").scan_iter() if key.decode().startswith(beginnings))


def test_one_at_a_time_in_the_order_of_arrival(new_fetch, places):
    jobs = OneAtATime.defer_many([(number,) for number in range(6)])
    fetch = new_fetch("w1", threads=3)
    done = []

    claims = claim_all(fetch)
    assert {job.state for job in jobs[1:]} == {"limited"}
    assert places()[jobs[1].id] == ["deferred:default"]
    while claims:
        assert len(claims) == 1
        done += ids(claims)
        finish(fetch, *claims)
        claims = claim_all(fetch)

    assert done == [job.id for job in jobs]
    assert kept() == []


def test_each_value_of_a_key_has_its_own_slots(new_fetch):
    jobs = OnePerShop.defer_many([("a",), ("a",), ("b",), ("b",)])

    assert ids(claim_all(new_fetch("w1", threads=5))) == [jobs[0].id, jobs[2].id]


def test_a_job_that_waits_for_its_limit_keeps_no_other_from_running(new_fetch):
    OneAtATime.defer_many([()] * 3)
    other = WriteNote.defer("x")

    assert len(ids(claim_all(new_fetch("w1", threads=2)))) == 2
    assert other.state == "running"


def test_a_slot_is_free_when_the_body_has_returned_and_no_earlier(new_fetch):
    first, second = OneAtATime.defer_many([(1,), (2,)])
    fetch = new_fetch("w1")
    (claim,) = claim_all(fetch)

    control.cancel(first)
    assert claim_all(fetch) == []
    assert second.state == "limited"

    finish(fetch, claim)  # refused
    assert ids(claim_all(fetch)) == [second.id]


def test_a_slot_whose_outcome_does_not_say_that_the_body_has_returned_stays(new_fetch):
    _, second = OneAtATime.defer_many([(1,), (2,)])
    fetch = new_fetch("w1")
    (claim,) = claim_all(fetch)

    fetch.commits.add(claim, Finished(None, 0), "sample.OneAtATime", 1.0, has_returned=False)
    assert claim_all(fetch) == []

    finish(fetch, claim)
    assert ids(claim_all(fetch)) == [second.id]


def test_the_slots_of_a_dead_worker_are_void(new_fetch):
    first, second = OneAtATime.defer_many([(1,), (2,)])
    claim_all(new_fetch("dead"))
    control.delete(first)
    fetch = new_fetch("w1")
    assert claim_all(fetch) == []
    third = OneAtATime.defer(3)

    get_connection("default").zadd("jobs:workers", {"dead": 1})

    assert ids(claim_all(fetch)) == [second.id]  # the third one finds the room, and waits behind the second
    assert third.state == "limited"


def test_a_job_given_back_comes_before_those_that_wait(new_fetch):
    first, second = OneAtATime.defer_many([(1,), (2,)])
    fetch = new_fetch("w1")
    (claim,) = claim_all(fetch)
    assert claim_all(fetch) == []

    finish(fetch, claim, outcome=GivenBack())

    assert ids(claim_all(fetch)) == [first.id]
    assert second.state == "limited"


def test_a_retry_holds_no_slot_and_comes_after(new_fetch):
    first, second, third = OneAtATime.defer_many([(1,), (2,), (3,)])
    fetch = new_fetch("w1")
    (claim,) = claim_all(fetch)

    finish(fetch, claim, outcome=Retried(0, "no", "", Progress(attempts=1)))
    order = []
    while claims := claim_all(fetch):
        order += ids(claims)
        finish(fetch, *claims)

    assert order == [second.id, third.id, first.id]


def test_two_limits_are_taken_together_and_no_wake_up_is_lost(new_fetch):
    a, b = NeedsA.defer(), NeedsB.defer()
    fetch = new_fetch("w1", threads=10)
    of_a, of_b = claim_all(fetch)
    both, next_a, next_b = NeedsBoth.defer(), NeedsA.defer(), NeedsB.defer()
    assert claim_all(fetch) == []
    assert (a.state, b.state, both.state) == ("running", "running", "limited")

    finish(fetch, of_a)  # wakes `both`, which B refuses
    (claim,) = claim_all(fetch)
    assert claim.job_id == next_a.id

    finish(fetch, claim, of_b)
    assert ids(claim_all(fetch)) == [both.id]
    assert next_b.state == "limited"


@pytest.mark.parametrize("turns", [1, 2])
def test_jobs_that_a_second_limit_refuses_keep_their_order(turns, new_fetch):
    NeedsA.defer(), NeedsB.defer()
    fetch = new_fetch("w1", threads=10)
    of_a, of_b = claim_all(fetch)
    jobs = NeedsBoth.defer_many([()] * 4)
    assert claim_all(fetch) == []  # A refuses them all
    finish(fetch, of_a)
    assert claim_all(fetch) == []  # A has woken each, and B has refused it
    if turns == 2:
        NeedsA.defer()
        (of_a,) = claim_all(fetch)
        finish(fetch, of_b)
        assert claim_all(fetch) == []  # B has woken each, and A has refused it
        of_b = of_a

    order = []
    finish(fetch, of_b)
    while claims := claim_all(fetch):
        order += ids(claims)
        finish(fetch, *claims)

    assert order == [job.id for job in jobs]
    assert kept() == []


@pytest.mark.parametrize("how", ["cancel", "delete", "move", "clear", "rq"])
def test_a_woken_job_that_goes_otherwise_wakes_the_next(how, new_fetch):
    OneAtATime.defer(1)
    fetch = new_fetch("w1", queues=("default",))
    (claim,) = claim_all(fetch)
    second, third = OneAtATime.defer_many([(2,), (3,)])
    assert claim_all(fetch) == []
    finish(fetch, claim)
    fetch._step(claims=False)
    assert (second.state, third.state) == ("queued", "limited")

    client = get_connection("default")
    if how == "move":
        control.move(second, "low")
    elif how == "clear":
        assert list(control.clear("default", timezone.now())) == [1, 0]
    elif how == "rq":  # by RQ's own code, which knows no lanes: the next look finds it
        client.lrem("rq:queue:default", 0, second.id)
        client.delete(second.key)
        sweep(client)
    else:
        getattr(control, how)(second)

    assert ids(claim_all(fetch)) == [third.id]


def sweep(client):
    return run_script(client, _LANES, [], [keys.RQ, iso(0), "", 50, 0])


def test_a_woken_job_in_a_paused_queue_does_not_swallow_the_wake_up(new_fetch):
    OneAtATime.defer(1, queue="low")
    fetch = new_fetch("w1", queues=("low",))
    (claim,) = claim_all(fetch)
    there = OneAtATime.defer(2, queue="critical")
    assert claim_all(new_fetch("w2", queues=("critical",))) == []
    here, then = OneAtATime.defer(3, queue="low"), OneAtATime.defer(4, queue="low")
    assert claim_all(fetch) == []
    finish(fetch, claim)  # wakes one in each queue; nobody serves the other one

    (claim,) = claim_all(fetch)
    assert claim.job_id == here.id
    finish(fetch, claim)
    assert ids(claim_all(fetch)) == [then.id]
    assert there.state == "queued"


@pytest.mark.parametrize("how", ["cancel", "delete", "move"])
def test_a_job_leaves_its_lane(how, new_fetch, places):
    _first, second, third = OneAtATime.defer_many([(1,), (2,), (3,)])
    fetch = new_fetch("w1", queues=("default",))
    (claim,) = claim_all(fetch)

    if how == "move":
        control.move(second, "low")
        assert places()[second.id] == ["queue:low"]
    else:
        getattr(control, how)(second)
    finish(fetch, claim)

    assert ids(claim_all(fetch)) == [third.id]
    assert get_connection("default").exists(keys.lane(ONE, "default")) == 0


def test_run_now_goes_past_a_limit_by_force_only(new_fetch):
    _, second, third = OneAtATime.defer_many([(1,), (2,), (3,)])
    fetch = new_fetch("w1")
    (first,) = claim_all(fetch)

    with pytest.raises(ChangeRefusedError, match=r"force=True"):
        control.run_now(second)
    control.run_now(second, force=True)

    (forced,) = claim_all(fetch)
    assert forced.job_id == second.id
    finish(fetch, first)
    assert claim_all(fetch) == []  # it counts
    finish(fetch, forced)
    assert ids(claim_all(fetch)) == [third.id]


def test_a_full_limit_may_drop_a_job(new_fetch):
    jobs = [TwoOrNone.defer() for _ in range(3)]

    assert len(claim_all(new_fetch("w1"))) == 2
    assert jobs[2].state == "discarded"
    assert "limited" in jobs[2].reason


def test_a_rate_says_when_the_next_is_due(new_fetch, valkey):
    jobs = Rated.defer_many([(number,) for number in range(5)])
    fetch = new_fetch("w1", threads=5)

    claims = claim_all(fetch)
    assert ids(claims) == [job.id for job in jobs[:2]]
    assert 29 < fetch._steps.until_due <= 30
    finish(fetch, *claims)
    assert claim_all(fetch) == []

    client = get_connection("default")
    place = "sample.Rated:rate:="
    client.set(keys.rate(place), float(client.get(keys.rate(place))) - 30)  # thirty seconds pass
    client.zadd(keys.LIMITS_DUE, {place: 1})
    fetch._steps.lanes_due = 0
    assert ids(claim_all(fetch)) == [jobs[2].id]
    assert claim_all(fetch) == []


def test_a_job_that_slowed_down_keeps_what_it_has_been_through(new_fetch):
    OneAtATime.defer(1)
    fetch = new_fetch("w1")
    (claim,) = claim_all(fetch)
    finish(fetch, claim, outcome=SlowedDown(0.0, (1,), Progress(requeues=3)))
    (again,) = claim_all(fetch) or claim_all(fetch)
    assert again.progress.requeues == 3


def test_a_lane_that_comes_due_while_a_step_is_under_way_is_left_to_the_next(new_fetch):
    fetch = new_fetch("w1")
    fetch._steps.lanes_due = time.monotonic() + 60
    fetch._steps.send(["default"], fetch._room)
    fetch._steps.lanes_due = 0  # as if a minute had passed
    fetch._steps.receive()
    assert fetch._steps.until_due == 0

    fetch._step(claims=True)
    assert fetch._steps.until_due == inf  # it has looked: nothing is due


def test_a_start_that_was_none_is_returned(new_fetch):
    jobs = Rated.defer_many([(number,) for number in range(3)])
    fetch = new_fetch("w1", threads=5)
    _first, second = claim_all(fetch)

    finish(fetch, second, outcome=GivenBack())

    assert ids(claim_all(fetch)) == [jobs[1].id]
    assert jobs[2].state == "limited"


@pytest.mark.parametrize("answer_is_lost", [False, True])
def test_a_cancelled_claim_that_was_not_begun_returns_its_start_once(answer_is_lost, new_fetch):
    jobs = Rated.defer_many([(number,) for number in range(5)])
    fetch = new_fetch("w1", threads=5)
    fetch._step(claims=True)
    control.cancel(jobs[1])
    fetch.forget(jobs[1].id, "w1.1")
    if answer_is_lost:
        fetch._steps.send([], fetch._room)
        fetch._steps.hang_up()

    fetch._ready.clear()
    assert ids(claim_all(fetch)) == [jobs[2].id]
    assert claim_all(fetch) == []
    assert [job.state for job in jobs[3:]] == ["limited", "limited"]


def test_jobs_deferred_before_a_limit_was_declared_get_it(new_fetch, worker):
    jobs = OneAtATime.defer_many([(number,) for number in range(3)])
    client = get_connection("default")
    for job in jobs:
        client.hdel(job.key, "limits", "more")
    fetch = new_fetch("w1", threads=3)
    claims = claim_all(fetch)
    assert len(claims) == 3
    for claim in reversed(claims):
        ended = execution.attempt(claim, Interruptible())
        assert isinstance(ended.outcome, Amended)
        finish(fetch, claim, outcome=ended.outcome)

    done = []
    while claims := claim_all(fetch):
        assert len(claims) == 1
        done += ids(claims)
        finish(fetch, *claims)
    assert done == [job.id for job in jobs]


def test_a_key_that_cannot_be_computed(new_fetch):
    with pytest.raises(ValueError, match="-1 is negative"):
        ByMethod.defer(-1)

    even, odd, second = ByMethod.defer(2), ByMethod.defer(3), ByMethod.defer(4)
    assert ids(claim_all(new_fetch("w1", threads=5))) == [even.id, odd.id]
    assert second.state == "limited"


def test_jobs_with_limits_are_claimed_for_idle_threads_only(new_fetch):
    jobs = OnePerShop.defer_many([(str(number),) for number in range(30)])
    fetch = new_fetch("w1", threads=3)
    fetch.pace.batch = 16

    assert ids(claim_all(fetch)) == [job.id for job in jobs[:3]]
    assert jobs[3].state == "queued"


def test_one_step_moves_so_many_to_lanes_and_is_asked_again(new_fetch):
    OneAtATime.defer_many([(number,) for number in range(120)])
    other = WriteNote.defer("x", queue="low")
    fetch = new_fetch("w1", threads=3)
    client = get_connection("default")

    assert len(claim_all(fetch)) == 1
    assert client.llen(keys.lane(ONE, "default")) == 50
    assert fetch._steps.until_due == 0
    assert other.state == "queued"

    fetch.pace.batch = 100  # that many are wanted: no more than 50 of them are moved
    assert claim_all(fetch) == []
    assert client.llen(keys.lane(ONE, "default")) == 100
    assert ids(claim_all(fetch)) == [other.id]
    assert client.llen(keys.lane(ONE, "default")) == 119


def attempt(fetch, claim):
    claim.started = 0.0
    ended = execution.attempt(claim, Interruptible())
    fetch.commits.add(claim, *ended, 0.001)


@pytest.mark.parametrize(("how", "seconds"), [("slow_down", 30), ("limit_on", 40)])
def test_a_job_slows_its_limits_down_and_is_the_first_to_run_then(how, seconds, new_fetch):
    first, second = SlowsDown.defer_many([("a", how), ("a", how)])
    other = SlowsDown.defer("b", "no")
    fetch = new_fetch("w1", threads=1)
    (claim,) = claim_all(fetch)
    attempt(fetch, claim)

    assert ids(claim_all(fetch)) == ([other.id] if how == "slow_down" else [])
    assert (first.state, second.state) == ("limited", "limited")
    assert first.progress.failures == {}
    assert seconds - 1 < fetch._steps.until_due <= seconds

    client = get_connection("default")
    place = 'api:rate:shop="a"' if how == "slow_down" else "sample.SlowsDown:concurrency:="
    for limit_id, value in [("api:rate:shop", '"a"'), ("sample.SlowsDown:concurrency:", "")]:
        client.hset(keys.limit(limit_id), f"until={value}", 1)  # the time passes
    client.zadd(keys.LIMITS_DUE, {place: 1, 'api:rate:shop="a"': 1})
    fetch._steps.lanes_due = 0
    fetch._threads = 5
    assert [job_id for job_id in ids(claim_all(fetch)) if job_id != other.id] == [first.id, second.id]
    assert client.exists(keys.limit("api:rate:shop")) == 0


def test_a_rate_in_the_body_of_a_job_and_in_a_view(new_fetch):
    with limit("api", Rate(1, per=60), wait=0):
        pass
    with (
        pytest.raises(OverLimitError, match=r"admits nothing for (60|5\d(\.\d)?) s"),
        limit("api", Rate(1, per=60), wait=1),
    ):
        pytest.fail("the block has begun")

    job = AsksInside.defer()
    fetch = new_fetch("w1")
    (claim,) = claim_all(fetch)
    attempt(fetch, claim)
    fetch._step(claims=False)

    assert (job.state, job.progress.failures) == ("scheduled", {})
    assert 30 < get_connection("default").zscore("rq:scheduled:default", job.id) - time.time() < 61


@pytest.mark.parametrize("kind", [AsksInside, AsksAwait])
def test_a_rate_on_an_event_loop_is_awaited(kind, new_fetch):
    async def ask(wait):
        async with limit("api", Rate(1, per=60), wait=wait):
            return asyncio.get_running_loop().time()

    async def block():
        with limit("api", Rate(1, per=60)):
            pass

    asyncio.run(ask(0))
    with pytest.raises(OverLimitError):
        asyncio.run(ask(0))
    with pytest.raises(LimitError, match=r"Use `async with limit\(\.\.\.\)`"):
        asyncio.run(block())
    job = kind.defer()
    fetch = new_fetch("w1")
    attempt(fetch, *claim_all(fetch))
    fetch._step(claims=False)
    assert (job.state, job.progress.failures) == ("scheduled", {})


def test_a_block_waits_for_its_start_without_blocking_the_loop(valkey, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("the loop is blocked"))

    async def both():
        order = []

        async def waits():
            async with limit("api", Rate(100, per=1, burst=1)):
                order.append("block")

        await asyncio.gather(waits(), waits())
        return order

    assert asyncio.run(both()) == ["block", "block"]


def test_rqs_own_readers_and_its_clean_up_leave_limited_jobs_alone(new_fetch, places):
    jobs = OneAtATime.defer_many([(number,) for number in range(3)])
    fetch = new_fetch("w1")
    claim_all(fetch)
    queue = queues.get_queue("default")

    assert set(queue.deferred_job_registry.get_job_ids()) == {job.id for job in jobs[1:]}
    queue.deferred_job_registry.cleanup()
    assert (queue.count, queue.started_job_registry.count) == (0, 1)
    assert jobs[1].get_status() == "deferred"
    assert places()[jobs[1].id] == ["deferred:default"]

    done = []
    while fetch.held:
        finish(fetch, *fetch.held.values())
        done += ids(claim_all(fetch))
    assert done == [job.id for job in jobs[1:]]


def test_a_limited_job_with_prerequisites_and_a_lock(new_fetch):
    first = WriteNote.defer("x")
    held, waits = OneAtATime.defer(1), OneAtATime.defer(2, prereq_jobs=[first])
    fetch = new_fetch("w1")
    claims = claim_all(fetch)
    assert ids(claims) == [first.id, held.id]

    finish(fetch, claims[0], outcome=Finished(None, 500))
    for member in fetch._step(claims=False):
        release(get_connection("default"), member)
    assert claim_all(fetch) == []
    assert waits.state == "limited"
    finish(fetch, claims[1])
    assert ids(claim_all(fetch)) == [waits.id]
