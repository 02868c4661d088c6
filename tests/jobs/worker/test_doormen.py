"""How idle workers wake: few for each job, and always one. The workers are threads with the worker's own Fetch."""

import threading
import time

import pytest

from jobs.attempts.outcomes import Finished
from jobs.broker import keys
from jobs.worker import doorbell, doormen
from jobs.worker.connection import Wire
from jobs.worker.fetch import Fetch
from jobs.worker.scoreboard import Board
from tests.jobs.worker import eventually

DOORMEN, BELL = keys.doormen("default"), keys.bell("default")


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A job that only the end of somebody's patience would find is lost here, unless `patience(1)` is called."""

    def be(seconds):
        monkeypatch.setattr(doorbell, "PATIENCE", seconds)
        monkeypatch.setattr(doormen, "RENEW", float(seconds))
        monkeypatch.setattr(doormen, "LEASE", 3.0 * seconds)

    be(100)
    return be


class Idle:
    """A worker without processes. Each job ends when `may_end` is set."""

    def __init__(self, name, *, threads=2, queues=("default",)):
        self.name, self.claimed, self.steps = name, [], 0
        self.may_end = threading.Event()
        self.may_end.set()
        order = dict.fromkeys(queues)
        self.fetch = Fetch(name, order, threads=threads, board=Board(threads), blocks=True, release=lambda member: None)
        step = self.fetch._step

        def counted(**options):
            self.steps += 1
            return step(**options)

        self.fetch._step = counted
        self.threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def _run(self):
        while (claim := self.fetch.take()) is not None:
            self.claimed.append(claim.job_id)
            self.may_end.wait()
            self.fetch.commits.add(claim, Finished(None, 0), "", 0.0)

    def stop(self):
        self.may_end.set()
        self.fetch.stop()
        for thread in self.threads:
            if thread.ident is not None:
                thread.join(30)
        self.fetch._doorbell.close()
        self.fetch._wire.close()


@pytest.fixture
def idle(valkey):
    """`idle(10, threads=2)`: so many workers, which wait."""
    client, workers = valkey.client(), []

    def new(number, **options):
        added = [Idle(f"w{len(workers) + at}", **options) for at in range(number)]
        client.zadd(keys.ALIVE, {worker.name: time.time() for worker in added})
        workers.extend(added)
        for worker in added:
            worker.start()
        eventually(lambda: blocked(client) >= len(workers))
        return added

    yield new
    for worker in workers:
        worker.fetch.stop()
    for worker in workers:
        worker.stop()
    client.close()


def blocked(client):
    return client.info("clients")["blocked_clients"]


def calls(client):
    return client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)


def enqueue(client, *ids, queue="default"):
    """As stock RQ does: no script of ours sees it."""
    for job_id in ids:
        client.hset(keys.job(job_id), mapping={"data": "x", "status": "queued", "origin": queue})
    client.rpush(keys.queue(queue), *ids)


def is_done(client, *ids):
    return not client.exists(*map(keys.job, ids))


def holders(client):
    return {member.decode() for member in client.zrange(DOORMEN, 0, -1)}


def by_place(client, workers):
    """The workers that are doormen, and those that wait at the bell."""
    held = holders(client)
    return [each for each in workers if each.name in held], [each for each in workers if each.name not in held]


def claims(workers):
    return {job_id for worker in workers for job_id in worker.claimed}


def relieve(worker):
    """As if it had been a doorman for long, and one of its jobs ran for long."""
    worker.fetch._doorbell._place.held_since = float("-inf")
    worker.fetch.leave_door()


def keep_busy(workers):
    for worker in workers:
        worker.may_end.clear()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_job_costs_at_most_two_steps_more_with_many_idle_workers_than_with_one(threads, idle, valkey):
    client, workers = valkey.client(), []

    def cost():
        before = sum(worker.steps for worker in workers), calls(client)
        for n in range(20):
            enqueue(client, f"j{n}")
            eventually(lambda n=n: is_done(client, f"j{n}") and blocked(client) >= len(workers))
        return (sum(worker.steps for worker in workers) - before[0]) / 20, (calls(client) - before[1]) / 20

    workers += idle(1, threads=threads)
    alone = cost()
    for number in (10, 40):
        workers += idle(number - len(workers), threads=threads)
        steps, scripts = cost()
        print(f"{number} workers: {steps} steps, {scripts} scripts a job; one: {alone}")
        assert steps <= alone[0] + 2.5
        assert scripts <= alone[1] + 4  # with those of door.lua


@pytest.mark.parametrize("threads", [1, 2])
def test_each_job_that_fills_a_worker_finds_another_one(threads, idle, valkey):
    client, workers = valkey.client(), idle(6, threads=threads)
    keep_busy(workers)
    for n in range(6 * threads):
        enqueue(client, f"j{n}")
        eventually(lambda n=n: claims(workers) >= {f"j{n}"})

    assert sorted(len(worker.claimed) for worker in workers) == [threads] * 6


def test_a_burst_reaches_all_idle_workers(idle, valkey):
    client, workers = valkey.client(), idle(40, threads=1)
    keep_busy(workers)
    ids = [f"j{n}" for n in range(100)]
    enqueue(client, *ids)
    eventually(lambda: sum(len(worker.claimed) for worker in workers) == 40)

    for worker in workers:
        worker.may_end.set()
    eventually(lambda: is_done(client, *ids))
    assert claims(workers) == set(ids)
    assert client.llen(BELL) <= 100


@pytest.mark.parametrize(("jobs", "threads", "tokens"), [(0, 2, 1), (1, 2, 1), (7, 2, 4), (7, 1, 7), (1_000, 2, 100)])
def test_it_rings_for_as_many_as_there_is_work_for(jobs, threads, tokens, valkey):
    client, place = valkey.client(), doormen.Place("w1", ["default"], threads)
    place.take()
    if jobs:
        client.rpush(keys.queue("default"), *range(jobs))
    for _ in range(3):  # nobody waits: no more are rung for
        place.leave(["default"])
        place._read_answer()
        assert client.llen(BELL) == tokens
        place.has_asked = True
    place.take()
    assert not client.exists(BELL)  # this one looks
    place.close()


def test_a_token_that_dies_with_its_waiter(idle, valkey):
    """It was killed between the token and its step."""
    client, other = valkey.client(), valkey.client()
    workers = idle(2, threads=1)
    eventually(lambda: len(holders(client)) == 2)
    keep_busy(workers)
    swallowed = []
    waiter = threading.Thread(target=lambda: swallowed.append(other.blpop([BELL], 20)))
    waiter.start()
    eventually(lambda: blocked(client) == 3)
    workers += idle(2, threads=1)
    keep_busy(workers)
    for n in range(3):
        enqueue(client, f"j{n}")
        eventually(lambda n=n: claims(workers) >= {f"j{n}"})

    waiter.join()
    assert swallowed != [None]


def test_a_waiter_that_died_is_not_rung(idle, valkey):
    client, dead = valkey.client(), valkey.client()
    workers = idle(2, threads=1)
    eventually(lambda: len(holders(client)) == 2)
    connection = dead.connection_pool.get_connection()
    connection.send_command("BLPOP", BELL, 0)
    eventually(lambda: blocked(client) == 3)
    workers += idle(1, threads=1)
    eventually(lambda: blocked(client) == 4)
    connection.disconnect()
    eventually(lambda: blocked(client) == 3)
    keep_busy(workers)
    for n in range(3):
        enqueue(client, f"j{n}")
        eventually(lambda n=n: claims(workers) >= {f"j{n}"})


def test_doormen_that_died_are_missed_for_as_long_as_a_waiter_waits(idle, valkey, patience):
    """As when their machine died: nobody frees their places."""
    patience(1)
    client = valkey.client()
    client.zadd(DOORMEN, {"dead": time.time() + 2, "dead, too": time.time() + 2})
    workers = idle(2)
    enqueue(client, "j")
    eventually(lambda: claims(workers) == {"j"})
    eventually(lambda: holders(client) == {worker.name for worker in workers})


def test_a_parent_frees_the_place_of_a_child_that_died(idle, valkey):
    client = valkey.client()
    client.zadd(DOORMEN, {"dead": time.time() + 100, "dead, too": time.time() + 100})
    workers = idle(2)
    wire = Wire("default")
    doormen.vacate(wire, "dead", ["default"])
    wire.close()
    eventually(lambda: holders(client) & {worker.name for worker in workers})
    enqueue(client, "j")
    eventually(lambda: claims(workers) == {"j"})


def leave_by_quiet(worker, client):
    worker.fetch.quiet()


def leave_by_stop(worker, client):
    worker.fetch.stop()


def leave_unregistered(worker, client):
    client.zrem(keys.ALIVE, worker.name)


def leave_by_pause(worker, client):
    worker.fetch._board.pause(0, True)


@pytest.mark.parametrize("leave", [leave_by_quiet, leave_by_stop, leave_unregistered, leave_by_pause])
def test_doormen_that_may_not_claim_make_room(leave, idle, valkey):
    client, workers = valkey.client(), idle(4)
    eventually(lambda: len(holders(client)) == 2)
    former, waiters = by_place(client, workers)
    for worker in former:
        leave(worker, client)
    if leave in (leave_by_quiet, leave_by_stop):  # at once; the others when a job comes
        eventually(lambda: holders(client) == {worker.name for worker in waiters})
    enqueue(client, "j")
    eventually(lambda: claims(waiters) == {"j"})

    assert claims(former) == set()


def test_a_queue_that_was_paused_is_watched_again(idle, valkey):
    client, workers = valkey.client(), idle(4)
    for worker in workers:
        worker.fetch._board.pause(0, True)
    enqueue(client, "j")
    eventually(lambda: not holders(client))
    for worker in workers:
        worker.fetch._board.pause(0, False)
    eventually(lambda: claims(workers) == {"j"})
    eventually(lambda: len(holders(client)) == 2)
    enqueue(client, "k")
    eventually(lambda: claims(workers) == {"j", "k"})


def test_a_worker_with_a_long_job_leaves_its_place_to_an_idle_one(idle, valkey):
    client, workers = valkey.client(), idle(3, threads=2)
    eventually(lambda: len(holders(client)) == 2)
    (first, _), (waiter,) = by_place(client, workers)
    first.fetch.leave_door()
    assert first.name in holders(client)  # it has just come
    relieve(first)
    eventually(lambda: waiter.name in holders(client))

    assert first.name not in holders(client)


def test_alone_it_watches_on(idle, valkey):
    client, (worker,) = valkey.client(), idle(1, threads=2)
    relieve(worker)
    enqueue(client, "j")
    eventually(lambda: claims([worker]) == {"j"})


@pytest.mark.parametrize("lose", ["deleted", "string", "list"])
def test_the_set_of_doormen_is_lost(lose, idle, valkey):
    client, workers = valkey.client(), idle(4, threads=1)
    client.delete(DOORMEN)
    if lose == "string":
        client.set(DOORMEN, "somebody's")
    elif lose == "list":
        client.rpush(DOORMEN, "somebody's")
    keep_busy(workers)
    for n in range(4):
        enqueue(client, f"j{n}")
        eventually(lambda n=n: claims(workers) >= {f"j{n}"})

    assert client.exists(f"jobs:aside:{DOORMEN}") == (lose != "deleted")


@pytest.mark.parametrize("key", ["bell", "recall"])
def test_a_bell_of_another_type_is_put_aside(key, idle, valkey):
    client = valkey.client()
    client.set(BELL if key == "bell" else keys.recall("w2"), "somebody's")
    workers = idle(3, threads=1)
    keep_busy(workers)
    for n in range(3):
        enqueue(client, f"j{n}")
        eventually(lambda n=n: claims(workers) >= {f"j{n}"})


def test_without_scripts_the_end_of_patience_finds_the_job(idle, valkey, patience):
    """The worker does not wait for the answer when it leaves, and its claim has gone before."""
    patience(1)
    client, workers = valkey.client(), idle(4, threads=1)
    keep_busy(workers)
    for n in range(4):
        client.script_flush()
        enqueue(client, f"j{n}")
        eventually(lambda n=n: claims(workers) >= {f"j{n}"})


def test_after_an_outage_jobs_are_seen_and_places_handed_on(idle, valkey):
    client, workers = valkey.client(), idle(4, threads=1)
    valkey.kill()
    valkey.start()
    client.zadd(keys.ALIVE, {worker.name: time.time() for worker in workers})
    eventually(lambda: blocked(client) >= 4)
    keep_busy(workers)
    for n in range(4):
        enqueue(client, f"j{n}")
        eventually(lambda n=n: claims(workers) >= {f"j{n}"})


def test_workers_that_serve_other_queues_have_doormen_of_their_own(idle, valkey):
    client = valkey.client()
    some, others = idle(3), idle(3, queues=("low", "default"))
    enqueue(client, "j", queue="low")
    eventually(lambda: claims(others) == {"j"})

    assert claims(some) == set()
    assert client.zcard(DOORMEN) == client.zcard(keys.doormen("default,low")) == 2


def test_a_worker_of_the_release_before_is_woken_beside(idle, valkey):
    client, earlier = valkey.client(), valkey.client()
    workers = idle(3)
    woken = []
    waiter = threading.Thread(
        target=lambda: woken.append(earlier.blmove(keys.queue("default"), keys.queue("default"), 20, "LEFT", "LEFT"))
    )
    waiter.start()
    eventually(lambda: blocked(client) == 4)
    enqueue(client, "j")
    waiter.join()
    eventually(lambda: claims(workers) == {"j"})

    assert woken == [b"j"]


def test_a_worker_that_gets_busy_swallows_no_token(idle, valkey):
    """One of its threads waits at the bell, first in line, while another one finds a job."""
    client, gate = valkey.client(), threading.Event()
    client.zadd(DOORMEN, {"dead": time.time() + 250})  # so there is one place
    (worker,) = idle(1, threads=2)
    keep_busy([worker])
    enqueue(client, "a")
    eventually(lambda: claims([worker]) == {"a"})
    (doorman,) = idle(1, threads=1)
    relieve(worker)
    eventually(lambda: doorman.name in holders(client))
    worker.fetch._doorbell.ring()
    eventually(lambda: doorbell.BELL in worker.fetch._doorbell._asked)
    (last,) = idle(1, threads=1)
    keep_busy([doorman, last])
    eventually(lambda: doorbell.BELL in last.fetch._doorbell._asked)  # else it may still make its first step
    eventually(lambda: blocked(client) >= 3)
    step = doorman.fetch._step
    doorman.fetch._step = lambda **options: (gate.wait(), step(**options))[1]
    enqueue(client, "b")
    worker.fetch._look()
    gate.set()
    for n, job_id in enumerate("bcd", start=2):
        if n > 2:
            enqueue(client, job_id)
        eventually(lambda job_id=job_id: claims([worker, doorman, last]) >= {job_id})

    assert [worker.claimed, doorman.claimed, last.claimed] == [["a", "b"], ["c"], ["d"]]


def test_a_worker_that_gets_busy_while_a_thread_comes_to_the_door_leaves_it(idle, valkey):
    """That thread takes a place after the step that has filled the worker has left it."""
    client, gate = valkey.client(), threading.Event()
    client.zadd(DOORMEN, {"dead": time.time() + 250})  # so there is one place
    (worker,) = idle(1, threads=2)
    (other,) = idle(1)
    keep_busy([worker])
    place, arrived = worker.fetch._doorbell._place, threading.Event()
    take = place.take
    place.take = lambda: (arrived.set(), gate.wait(), take())[2]
    worker.fetch._doorbell.ring()
    arrived.wait()
    other.fetch._step, step = lambda **options: (gate.wait(), step(**options))[1], other.fetch._step
    enqueue(client, "a", "b")
    worker.fetch._look()
    gate.set()
    eventually(lambda: claims([worker]) == {"a", "b"})
    enqueue(client, "c")
    eventually(lambda: claims([other]) == {"c"})


@pytest.fixture
def bell_of_one(valkey):
    """A doorbell, and its place among the doormen. It waits at the bell while `full` has been called."""
    place = doormen.Place("w1", ["default"], 1)
    one = doorbell.Doorbell({"default": keys.queue("default")}, blocks=True, place=place)
    yield one, place
    one.close()


def full(client):
    client.zadd(DOORMEN, {"dead": time.time() + 250, "dead, too": time.time() + 250})


def test_a_doorman_that_has_waited_at_the_bell_takes_the_token_from_there(bell_of_one, valkey):
    (one, place), client = bell_of_one, valkey.client()
    full(client)
    one.wait(["default"], 0)
    client.delete(DOORMEN)
    place.expect_change()
    one.wait(["default"], 0)
    client.rpush(BELL, "token")
    one.wait(["default"], 20)

    assert place.is_held
    assert list(one._asked) == ["default"]  # the bell has been answered, the queue has not


def test_a_job_that_others_were_told_of_meanwhile_wakes_nobody_later(bell_of_one, valkey):
    (one, place), client = bell_of_one, valkey.client()
    one.wait(["default"], 0)
    one.leave(["default"])
    full(client)
    one.wait(["default"], 0)
    client.rpush(keys.queue("default"), "x")
    client.delete(keys.queue("default"), DOORMEN)
    place.expect_change()
    one.wait(["default"], 0.1)

    assert place.is_held
    assert "default" in one._asked
