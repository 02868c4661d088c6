"""Claims for threads and for an event loop: by number, in order, and leaving in place what finds no room."""

import threading
import time

import pytest

from jobs.attempts.outcomes import Finished
from jobs.broker.connections import get_connection
from jobs.worker import both
from jobs.worker.both import FetchForBoth
from jobs.worker.fetch import LONG
from jobs.worker.scoreboard import Board
from tests.jobs.worker import eventually
from tests.sample.commands.notes import WriteNote
from tests.sample.commands.on_loop import Await, OneAwaited

pytestmark = pytest.mark.django_db(transaction=True)

QUEUE = "rq:queue:default"


class ForTest(FetchForBoth):
    """What a step brings, by kind."""

    def __init__(self, name, **options):
        get_connection("default").zadd("jobs:workers", {name: time.time()})
        self.started = []
        queues = {"critical": None, "default": None}
        options = {"threads": 2, "tasks": 3, "blocks": True, "release": lambda member: None} | options
        board = Board(options["threads"], options["tasks"])
        super().__init__(name, queues, board=board, start=self.started.extend, **options)

    def claim(self):
        self._step(claims=True)
        threads, tasks = list(self._ready), list(self.started)
        self._ready.clear(), self.started.clear()
        return [claim.job_id for claim in threads], [claim.job_id for claim in tasks]

    def finish(self, job_id):
        (claim,) = (each for each in self.held.values() if each.job_id == job_id)
        self.commits.add(claim, Finished(None, 500), "sample.Await", 0.001)

    def close(self):
        self._doorbell.close()
        self._wire.close()


@pytest.fixture
def fetch(valkey):
    fetches = []

    def new(name="w1", **options):
        fetches.append(ForTest(name, **options))
        return fetches[-1]

    yield new
    for each in fetches:
        each.close()


def ids(jobs):
    return [job.id for job in jobs]


def left():
    return [job_id.decode() for job_id in get_connection("default").lrange(QUEUE, 0, -1)]


def test_each_kind_is_claimed_in_order_as_far_as_there_is_room(fetch):
    jobs = [command.defer(*args) for _ in range(5) for command, args in ((WriteNote, "x"), (Await, ()))]
    worker = fetch()

    threads, tasks = worker.claim()
    assert threads == ids(jobs[0:4:2])
    assert tasks == ids(jobs[1:6:2])
    assert left() == ids([jobs[4], *jobs[6:]])  # in their order
    assert worker._steps.has_left

    worker.finish(tasks[1])
    assert worker.claim() == ([], [jobs[7].id])


@pytest.mark.parametrize("behind", [99, 1_000])
@pytest.mark.parametrize("is_async_first", [True, False])
def test_a_job_behind_many_of_the_other_kind_is_found_among_the_first_hundred(is_async_first, behind, fetch):
    many, one = ((Await, ()), (WriteNote, ("x",))) if is_async_first else ((WriteNote, ("x",)), (Await, ()))
    worker = fetch(threads=2, tasks=2)
    many[0].defer_many([many[1]] * 2)
    worker.claim()  # their kind has no room from here on
    many[0].defer_many([many[1]] * behind)
    job = one[0].defer(*one[1])

    found = [job.id] if behind < 100 else []
    assert worker.claim() == ((found, []) if is_async_first else ([], found))
    assert len(left()) == behind + (not found)

    while not found:  # as those before it are done
        for claim in list(worker.held.values()):
            worker.finish(claim.job_id)
        found = [each for kind in worker.claim() for each in kind if each == job.id]
    assert found == [job.id]


def test_a_full_loop_takes_nothing_from_threads_and_the_other_way_round(fetch):
    worker = fetch(threads=1, tasks=1)
    first, second = Await.defer(), Await.defer()
    assert worker.claim() == ([], [first.id])

    other = WriteNote.defer("x")
    assert worker.claim() == ([other.id], [])
    assert left() == [second.id]


def test_a_late_loop_gets_nothing(fetch):
    job, other = Await.defer(), WriteNote.defer("x")
    worker = fetch()
    worker.is_late = True
    assert worker.claim() == ([other.id], [])

    worker.is_late = False
    assert worker.claim() == ([], [job.id])


def test_a_higher_queue_goes_first(fetch):
    low, high = Await.defer(), Await.using(queue="critical").defer()
    assert fetch(tasks=1).claim() == ([], [high.id])
    assert left() == [low.id]


def test_the_most_jobs_of_a_process_are_those_of_both(fetch):
    Await.defer_many([()] * 3), WriteNote.defer_many([("x",)] * 3)
    worker = fetch(max_jobs=4)
    threads, tasks = worker.claim()

    assert (len(threads), len(tasks)) == (2, 2)


def test_an_id_that_is_no_job_or_twice_in_the_list_stops_no_other(fetch):
    client = get_connection("default")
    client.set("rq:job:broken", "x")
    job = Await.defer()
    client.lpush(QUEUE, "broken", "gone", job.id)
    worker = fetch(threads=3)

    threads, tasks = worker.claim()
    assert (threads, tasks) == ([], [job.id, job.id])
    assert left() == []


def test_limits_hold_on_the_loop(fetch):
    jobs = [OneAwaited.defer() for _ in range(3)]
    worker = fetch()

    assert worker.claim() == ([], [jobs[0].id])
    assert [job.state for job in jobs[1:]] == ["limited", "limited"]
    worker.finish(jobs[0].id)
    assert worker.claim() == ([], [jobs[1].id])


def test_one_that_waits_at_the_door_without_room_does_not_ask_all_the_time(fetch, monkeypatch):
    worker, waits = fetch(threads=1, tasks=1), []
    monkeypatch.setattr(worker._doorbell, "wait", lambda queues, limit, **options: waits.append((queues, limit)))
    Await.defer()
    worker.claim()
    worker._wait_at_door()
    assert waits.pop() == (["critical", "default"], LONG)

    Await.defer()
    assert worker.claim() == ([], [])  # there is no room for it
    worker._wait_at_door()
    assert waits.pop() == ([], both.AGAIN)


def test_a_worker_of_threads_alone_takes_both_kinds(new_fetch):
    jobs = [Await.defer(), WriteNote.defer("x")]
    fetch = new_fetch("w1")
    fetch._step(claims=True)

    assert [claim.job_id for claim in fetch._ready] == ids(jobs)


def test_while_the_server_is_away_a_worker_that_stops_asks_less_and_less(fetch, valkey):
    """What its tasks have done is still to be committed."""
    jobs = [Await.defer(1) for _ in range(2)]
    worker = fetch()
    worker.claim()
    valkey.kill()
    worker.finish(jobs[0].id)
    worker.flush()  # in doubt from now on
    worker.finish(jobs[1].id)
    worker.stop()
    begun = time.monotonic()
    attendant = threading.Thread(target=worker.attend, daemon=True)
    attendant.start()
    eventually(lambda: worker._wait >= 0.4)
    took = time.monotonic() - begun
    valkey.start()
    get_connection("default").zadd("jobs:workers", {"w1": time.time()})
    attendant.join(20)

    assert took >= 0.05 + 0.1 + 0.2
    assert not attendant.is_alive()
    assert worker._steps.is_all_written
