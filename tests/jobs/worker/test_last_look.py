"""A burst ends once its queues have no job, and none is on its way into them; and what is odd does not hold it up."""

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from jobs.broker import keys
from jobs.broker.connections import get_connection
from jobs.limits import control as limits
from jobs.worker.release import release
from tests.jobs.worker.test_step import claim_all, finish
from tests.sample.commands.limited import OneAtATime, Rated
from tests.sample.commands.notes import WriteNote


def release_now(member):
    return release(get_connection("default"), member)


@pytest.fixture
def burst(new_fetch):
    """A burst that holds the first of two jobs, of which the second waits for the first; it is done."""

    def begin(**options):
        first = WriteNote.defer("first")
        begin.then = WriteNote.defer("then", prereq_jobs=[first])
        fetch = new_fetch("w1", burst=True, **{"release": release_now} | options)
        (claim,) = claim_all(fetch)
        finish(fetch, claim)
        return fetch

    return begin


def goes_on(fetch, job):
    claim = fetch.take()
    assert claim is not None and claim.job_id == job.id
    finish(fetch, claim)
    return fetch.take() is None  # and ends after it


def test_it_goes_past_more_jobs_that_wait_for_a_limit_than_a_step_moves(new_fetch):
    OneAtATime.defer_many([(number,) for number in range(120)])
    limits.pause("sample.OneAtATime:concurrency:")
    job = WriteNote.defer("behind them")
    assert goes_on(new_fetch("w1", burst=True), job)


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_a_process_goes_past_them_and_leaves_those_that_wait(worker_process):
    Rated.defer_many([(number,) for number in range(120)])
    job = WriteNote.defer("behind them")
    process = worker_process("default", concurrency=2, burst=True)
    assert process.wait() == 0, process.output
    assert job.state == "finished"


def test_it_goes_on_once_a_server_that_was_full_has_room(new_fetch):
    job = WriteNote.defer("x")
    fetch = new_fetch("w1", burst=True)
    client = get_connection("default")
    client.config_set("maxmemory", "1mb")
    try:
        fetch._look()
        assert not fetch.held and not fetch.stopping
    finally:
        client.config_set("maxmemory", "0")
    assert goes_on(fetch, job)


def test_it_goes_on_with_what_another_thread_releases_just_after_a_step(burst):
    """Thread B's step finds nothing; then thread A has released; then B decides whether this is the end."""
    fetch = burst()
    step = fetch._step
    members = step(claims=True)  # thread A's: it has committed the first job
    fetch._last_look.begin(members)

    def step_and_lose_the_processor(**options):
        answer = step(**options)
        fetch._last_look.release(members)
        return answer

    fetch._step = step_and_lose_the_processor
    fetch._look()
    fetch._step = step
    assert not fetch.stopping
    assert goes_on(fetch, burst.then)


@pytest.mark.parametrize("commit", ["_look", "flush"])  # a thread; the main thread, for one that was given up
def test_it_goes_on_with_what_a_thread_is_releasing_while_others_look(burst, commit):

    released = []

    def look_first(member):
        released.append(member)
        fetch._look()  # another thread, which finds nothing
        return release_now(member)

    fetch = burst(release=look_first)
    getattr(fetch, commit)()
    assert len(released) == 1
    assert not fetch.stopping
    assert goes_on(fetch, burst.then)


@pytest.mark.parametrize("what", ["finish", "start"])
def test_it_goes_on_with_what_a_lost_answer_has_left_to_be_released(burst, what, monkeypatch):
    """The answer of the step that commits; or the next step cannot be sent, after that answer has come."""
    fetch = burst()
    if what == "start":
        fetch._steps.send(fetch._order(), fetch._room)
    call, broken = getattr(fetch._wire, what), []

    def cut_once(*args):
        answer = call(*args)
        if not broken:
            broken.append(True)
            raise RedisConnectionError("cut")
        return answer

    monkeypatch.setattr(fetch._wire, what, cut_once)
    fetch._look()
    assert broken and not fetch.stopping
    assert goes_on(fetch, burst.then)


def test_what_cannot_be_released_and_a_list_that_is_none_do_not_hold_it_up(new_fetch):
    client = get_connection("default")
    client.sadd(keys.RELEASING, "jobs:dependents:gone")
    client.sadd("jobs:dependents:gone", "odd")
    client.set("rq:job:odd", "no record")
    client.set(keys.queue("low"), "no list")
    fetch = new_fetch("w1", burst=True, release=release_now)
    fetch._last_look.is_in_doubt = True
    assert fetch.take() is None
    assert client.sismember(keys.RELEASING, "jobs:dependents:gone")


def test_the_releases_of_other_workers_do_not_hold_it_up(new_fetch):
    get_connection("default").sadd(keys.RELEASING, "jobs:dependents:others")
    fetch = new_fetch("w1", burst=True, release=lambda member: pytest.fail("it is not ours"))
    assert fetch.take() is None
