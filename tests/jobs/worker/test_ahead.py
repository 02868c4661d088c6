"""A step in flight: sent ahead while claims are left, and received, lost or given back at every moment after that."""

import threading
from threading import get_ident

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from jobs import control
from jobs.attempts.outcomes import Finished
from jobs.broker.connections import get_connection
from jobs.job import MandateJob
from jobs.worker import fetch as fetch_module
from jobs.worker import pace
from tests.jobs.worker.test_stop import child  # noqa: F401
from tests.sample.commands.notes import WriteNote

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(60)]

THREADS, BATCH = 2, 4


@pytest.fixture
def leading(new_fetch):
    """`leading(jobs=12)`: a fetch that has taken the first of its claims and leads, with the jobs that are there."""

    def new(jobs=12, **options):
        deferred = WriteNote.defer_many([(str(n),) for n in range(jobs)])
        fetch = new_fetch("w1", threads=THREADS, **options)
        fetch.pace.is_short = fetch.pace.is_quick = True
        fetch.pace.batch = BATCH
        return fetch, [job.id for job in deferred]

    return new


@pytest.fixture
def in_flight(leading):
    """As `leading`, with a step in flight that commits the first job and claims two more; `running` is the second."""

    def new(jobs=12, **options):
        fetch, ids = leading(jobs, **options)
        run_one(fetch)
        fetch.running = fetch.take()
        assert not fetch._steps.in_flight
        fetch.next = fetch.take()
        assert fetch._steps.in_flight
        assert [claim.job_id for claim in fetch._ready] == ids[3:4]
        return fetch, ids

    return new


def run_one(fetch):
    claim = fetch.take()
    if claim is not None:
        done(fetch, claim)
    return claim and claim.job_id


def done(fetch, claim):
    fetch.commits.add(claim, Finished(None, 500), "sample.WriteNote", 0.00001)


def run_all(fetch):
    """Run until there is no more to take. Returns the ids of what was run, in their order."""
    ran = []
    while (job_id := run_one(fetch)) is not None:
        ran.append(job_id)
    return ran


def queued():
    return [job_id.decode() for job_id in get_connection("default").lrange("rq:queue:default", 0, -1)]


def claimed():
    return {member.rpartition(b":")[0].decode() for member in get_connection("default").zrange("rq:wip:default", 0, -1)}


def finished():
    return {job_id.decode() for job_id in get_connection("default").zrange("rq:finished:default", 0, -1)}


def counted():
    client = get_connection("default")
    return sum(int(count) for key in client.keys("jobs:counts:*") for count in client.hvals(key))


def test_the_server_works_while_claims_are_left(in_flight):
    _, ids = in_flight()

    assert finished() == set(ids[:1])  # committed by the step in flight
    assert claimed() == set(ids[1:6])
    assert queued() == ids[6:]


def test_a_burst_runs_each_job_once_and_ends(leading):
    fetch, ids = leading(40, burst=True)

    assert run_all(fetch) == ids
    assert finished() == set(ids)
    assert counted() == len(ids)
    assert (claimed(), fetch.held, fetch._steps.in_flight) == (set(), {}, False)


@pytest.mark.parametrize("most", [1, 4, 5, 7])
def test_no_more_than_max_jobs_are_taken(most, leading):
    fetch, ids = leading(20, max_jobs=most)

    assert run_all(fetch) == ids[:most]
    assert queued() == ids[most:]


def test_fair_claims_are_no_more_than_threads_are_idle(leading):
    fetch, ids = leading(20, burst=True)
    fetch.pace.batch = 1
    ran = []
    while (claim := fetch.take()) is not None:
        assert len(claimed() - set(ran)) <= THREADS
        ran.append(claim.job_id)
        done(fetch, claim)
    assert ran == ids


def test_a_paused_queue_is_not_claimed_from_ahead(leading):
    fetch, ids = leading()
    run_one(fetch)
    fetch._board.pause(1, True)
    for _ in range(3):
        run_one(fetch)
    assert queued() == ids[4:]


@pytest.mark.parametrize("lost", ["the request", "the answer"])
def test_after_a_lost_answer_nothing_is_lost_nor_run_nor_counted_twice(lost, leading, monkeypatch):
    fetch, ids = leading(burst=True)
    ran = [run_one(fetch), run_one(fetch)]
    if lost == "the request":
        monkeypatch.setattr(fetch._wire._connection, "send_packed_command", broken)
    running = fetch.take()
    assert fetch._steps.in_flight == (lost != "the request")
    if lost == "the answer":
        lose_answer(fetch, monkeypatch)
    ran.append(run_one(fetch))  # claimed before, and run meanwhile
    done(fetch, running)
    ran += run_all(fetch)

    assert sorted([*ran, running.job_id]) == sorted(ids)
    assert finished() == set(ids)
    assert counted() == len(ids)
    assert claimed() == set()


def lose_answer(fetch, monkeypatch):
    """Lose the answer that is on its way: the server has done what it was asked."""
    receive = fetch._wire.receive

    def lose():
        monkeypatch.setattr(fetch._wire, "receive", receive)
        receive()
        raise RedisConnectionError("cut")

    monkeypatch.setattr(fetch._wire, "receive", lose)


def broken(*args, **options):
    raise RedisConnectionError("cut")


def test_claims_of_an_unread_answer_are_not_taken_for_lost_ones(in_flight, monkeypatch):
    fetch, ids = in_flight(burst=True)
    fetch._steps._reconcile_at = 0.0  # the half minute is over
    done(fetch, fetch.running)
    done(fetch, fetch.next)

    assert run_all(fetch) == ids[3:]
    assert counted() == len(ids)


def test_nothing_is_sent_ahead_when_it_is_time_to_reconcile(leading):
    fetch, _ = leading()
    run_one(fetch)
    run_one(fetch)
    fetch._steps._reconcile_at = 0.0
    fetch.take()
    assert not fetch._steps.in_flight


def test_nothing_is_sent_ahead_when_in_doubt(in_flight):
    fetch, _ = in_flight()
    fetch._steps.hang_up()
    fetch._wire.call("PING")  # it is open again
    fetch.take()
    assert not fetch._steps.in_flight


@pytest.mark.parametrize("end", ["stop", "quiet"])
def test_nothing_is_sent_ahead_after_the_end(end, leading):
    fetch, _ = leading()
    run_one(fetch)
    run_one(fetch)
    if end == "stop":
        fetch.stop()
    else:
        fetch._quiet = True
    fetch.take()
    assert not fetch._steps.in_flight


def test_an_unread_answer_is_given_back_in_order(in_flight):
    fetch, ids = in_flight()
    assert fetch.has_ready
    fetch.give_back()

    assert queued() == ids[3:]
    assert set(fetch.held.values()) == {fetch.running, fetch.next}
    assert claimed() == set(ids[1:3])
    assert not fetch.has_ready


def test_an_unread_answer_that_is_lost_when_it_is_to_be_given_back(in_flight, monkeypatch):
    fetch, ids = in_flight()
    lose_answer(fetch, monkeypatch)
    fetch.give_back()
    assert not fetch.has_ready  # the main thread does not try again at every tick
    assert fetch.flush()

    assert queued() == ids[3:]
    assert claimed() == set(ids[1:3])


@pytest.mark.parametrize("names_execution", [True, False])
def test_a_claim_that_is_cancelled_in_the_unread_answer_is_not_run(names_execution, in_flight):
    fetch, ids = in_flight(burst=True)
    job = MandateJob.fetch(ids[4], connection=get_connection("default"))
    control.cancel(job)
    assert fetch.forget(job.id, "w1.4" if names_execution else "") == set()
    done(fetch, fetch.running)
    done(fetch, fetch.next)

    assert run_all(fetch) == [job_id for job_id in ids[3:] if job_id != job.id]
    assert job.state == "cancelled"
    assert fetch.held == {}


@pytest.mark.parametrize("at", [3, 4])  # ready here; in the unread answer
def test_rqs_stop_job_ends_a_job_that_no_thread_has_begun(at, in_flight):
    fetch, ids = in_flight(burst=True)
    job = MandateJob.fetch(ids[at], connection=get_connection("default"))
    assert fetch.forget(job.id) == set()
    done(fetch, fetch.running)
    done(fetch, fetch.next)

    assert run_all(fetch) == [job_id for job_id in ids[3:] if job_id != job.id]
    assert (job.state, job.reason) == ("dead", "stopped on request")
    assert fetch.held == {}


def test_a_claim_in_the_unread_answer_is_forgotten_only_if_it_is_that_execution(in_flight):
    fetch, ids = in_flight(burst=True)
    assert fetch.forget(ids[4], "w1.3") == set()
    assert fetch.forget(ids[1], "") == {fetch.running}
    done(fetch, fetch.running)
    done(fetch, fetch.next)
    assert run_all(fetch) == ids[3:]


def test_quiet_gives_back_what_the_step_in_flight_claims(in_flight):
    fetch, ids = in_flight()
    fetch.quiet()

    assert (queued(), claimed()) == (ids[3:], set(ids[1:3]))
    done(fetch, fetch.running)
    fetch.flush()
    assert not fetch._look()
    assert claimed() == set(ids[2:3])


def test_a_stop_claims_nothing_more_and_leaves_nothing_claimed(in_flight):
    fetch, ids = in_flight()
    fetch.stop()
    done(fetch, fetch.running)
    done(fetch, fetch.next)

    assert run_all(fetch) == ids[3:6]  # what had been claimed
    assert (queued(), claimed()) == (ids[6:], set())


def test_a_stop_while_all_threads_run_puts_back_what_they_run(in_flight):
    fetch, ids = in_flight()
    for number, claim in enumerate((fetch.running, fetch.next)):
        fetch._board.start(number, 1.0, 9e9, claim.id, claim.execution, claim.queue)
    fetch.stop()
    fetch.give_back()
    assert fetch.flush()
    fetch.put_back_running()

    assert (queued(), claimed()) == (ids[1:], set())
    interrupted = [job_id for job_id in ids if get_connection("default").hexists(f"rq:job:{job_id}", "interruptions")]
    assert interrupted == ids[1:3]


def test_a_broken_doorbell_closes_the_connection_of_a_step_in_flight(in_flight):
    fetch, ids = in_flight(burst=True)
    fetch._ask_anew(RedisConnectionError("cut"))
    assert not fetch._steps.in_flight
    done(fetch, fetch.running)
    done(fetch, fetch.next)

    assert sorted(run_all(fetch)) == sorted(ids[3:])
    assert counted() == len(ids)


def test_a_server_that_lost_the_script_gets_it_again_when_the_answer_is_received(leading):
    fetch, ids = leading(burst=True)
    run_one(fetch)
    run_one(fetch)
    get_connection("default").script_flush()
    run_one(fetch)
    assert fetch._steps.in_flight
    assert claimed() == set(ids[:4])  # the server has refused it

    assert run_all(fetch) == ids[3:]
    assert counted() == len(ids)


def test_outcomes_that_a_full_server_refuses_in_flight_are_sent_again(leading):
    fetch, ids = leading(burst=True)
    client = get_connection("default")
    run_one(fetch)
    run_one(fetch)
    client.config_set("maxmemory", "1mb")
    try:
        ran = [run_one(fetch), run_one(fetch)]
        assert fetch._steps.in_flight
        fetch._commit(fetch._receive)
    finally:
        client.config_set("maxmemory", "0")
    ran += run_all(fetch)

    assert ran == ids[2:]
    assert finished() == set(ids)
    assert counted() == len(ids)


def test_a_worker_killed_with_a_step_in_flight_has_begun_only_what_is_on_its_board(in_flight, valkey):
    fetch, ids = in_flight()
    for number, claim in enumerate((fetch.running, fetch.next)):
        fetch._board.start(number, 1.0, 9e9, claim.id, claim.execution, claim.queue)
    fetch._wire.close()  # as its kernel does
    fetch.put_back_running()  # as its parent does

    assert queued() == ids[1:]
    interrupted = [job_id for job_id in ids if get_connection("default").hexists(f"rq:job:{job_id}", "interruptions")]
    assert interrupted == ids[1:3]


# --- leader and followers ----------------------------------------------------------------------------


def test_one_thread_leads_while_jobs_are_quick_and_the_queues_have_more(leading):
    fetch, _ = leading(jobs=5, burst=True)
    assert fetch._leader == 0
    run_one(fetch)
    assert fetch._leader == get_ident()
    run_all(fetch)
    assert fetch._leader == 0  # the last answer brought fewer than there was room for


def test_nobody_leads_while_jobs_take_longer(leading):
    fetch, _ = leading()
    fetch.pace.is_quick = False
    run_one(fetch)
    assert fetch._leader == 0
    for _ in range(3):
        run_one(fetch)
    assert not fetch._steps.in_flight


def test_a_follower_waits_as_long_as_the_leader_comes_back(leading, monkeypatch):
    fetch, ids = leading()
    first = fetch.take()
    leader = fetch._leader
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) < 5:
            fetch._latest = object()  # the leader has taken another

    monkeypatch.setattr(fetch_module.time, "sleep", sleep)
    taken = in_thread(fetch.take)
    assert len(slept) == 5
    assert (first.job_id, taken.job_id) == (ids[0], ids[1])
    assert fetch._leader != leader


def test_a_follower_waits_while_the_leader_waits_for_the_server(leading, monkeypatch):
    fetch, _ = leading()
    fetch.take()
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 5:
            fetch._using_wire.release()

    monkeypatch.setattr(fetch_module.time, "sleep", sleep)
    fetch._using_wire.acquire()
    in_thread(fetch.take)
    assert len(slept) == 5


@pytest.mark.parametrize("end", ["quiet", "paused"])
def test_nobody_leads_when_nothing_may_be_claimed(end, leading):
    fetch, _ = leading()
    run_one(fetch)
    if end == "quiet":
        fetch.quiet()
    else:
        for queue in range(3):
            fetch._board.pause(queue, True)
    for _ in range(4):
        assert fetch._look() == bool(fetch._ready)
        fetch._ready.clear()
    assert fetch._leader == 0


@pytest.mark.parametrize("end", ["stop", "outage"])
def test_followers_are_let_go_when_nobody_leads(end, leading, monkeypatch):
    fetch, _ = leading()
    fetch.take()
    fetch._stopped = threading.Event()
    fetch._stopped.set()  # an outage is not waited for
    sleep = {
        "stop": lambda seconds: fetch.stop(),
        "outage": lambda seconds: fetch._outage(RedisConnectionError("cut")),
    }[end]
    monkeypatch.setattr(fetch_module.time, "sleep", sleep)
    in_thread(fetch._follow)


def in_thread(call):
    """Call in a thread of its own, and return the result."""
    results = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    return results[0]


# --- the pace ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "batch", "is_quick"),
    [(0.00002, 64, True), (0.00009, 22, True), (0.0002, 10, False), (0.0009, 2, False), (0.002, 1, False)],
)
def test_a_batch_is_two_milliseconds_of_work(seconds, batch, is_quick):
    judged = pace.Pace(64)
    for _ in range(pace.ENOUGH):
        assert (judged.batch, judged.is_quick) == (1, False)
        judged.add(seconds)
    judged.judge()
    assert (judged.batch, judged.is_quick) == (batch, is_quick)


def test_rare_long_jobs_do_not_count_and_frequent_ones_do():
    judged = pace.Pace(64)
    for number in range(pace.LAST):
        judged.add(0.2 if number % 100 == 0 else 0.00002)
    judged.judge()
    assert (judged.batch, judged.is_quick) == (64, True)
    for number in range(pace.LAST):
        judged.add(0.005 if number % 10 == 0 else 0.00002)
    judged.judge()
    assert not judged.is_quick


def test_claims_are_fair_while_a_job_runs_for_long():
    judged = pace.Pace(64)
    for _ in range(pace.LAST):
        judged.add(0.00002)
    judged.judge(longest=0.019)
    assert judged.batch == 64
    judged.judge(longest=0.020)
    assert (judged.batch, judged.is_short, judged.is_quick) == (1, False, False)


def test_the_main_thread_gives_back_an_answer_that_all_threads_are_too_busy_to_read(child):  # noqa: F811
    jobs = WriteNote.defer_many([(str(n),) for n in range(6)])
    fetch = child._fetch
    fetch.pace.batch = BATCH
    fetch._leader = get_ident()
    fetch._step(claims=True)
    for _ in range(4):
        child.thread.claim = fetch.take()
    assert fetch._steps.in_flight
    assert not fetch._ready
    assert child._tick() == pace.LONG / 2
    child.thread.claim.started = child.thread.claim.deadline = float("inf")
    child._mind()
    assert fetch._steps.in_flight
    child.thread.claim.started = 0.0
    child._mind()

    assert not fetch._steps.in_flight
    assert queued() == [job.id for job in jobs[4:]]
