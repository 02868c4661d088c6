"""Limits in a worker with an event loop: what a step claims for threads and for tasks, and what it leaves in place."""

import pytest

from jobs import control
from jobs.attempts.outcomes import Finished, Retried
from jobs.broker import keys
from jobs.broker.connections import get_connection
from jobs.retries import Progress
from tests.sample.commands.limited import OnePerShop
from tests.sample.commands.limited_async import Alone, AloneAwait, OneAwait, OneThread, TwoAwait
from tests.sample.commands.notes import WriteNote
from tests.sample.commands.on_loop import Await

LANE = keys.lane("either:concurrency:=", "default")


def claim_all(fetch):
    """Make a step. Returns the claims of threads, and those of tasks, by the ids of their jobs."""
    known = set(fetch._steps.tasks)
    fetch._step(claims=True)
    threads = {claim.job_id: claim for claim in fetch._ready}
    fetch._ready.clear()
    return threads, {each.job_id: each for key, each in fetch._steps.tasks.items() if key not in known}


def finish(fetch, *claims, outcome=None):
    for claim in claims:
        fetch.commits.add(claim, outcome or Finished(None, 0), "sample.OneAwait", 0.001)


def listed(queue="default"):
    return [each.decode() for each in get_connection(queue).lrange(keys.queue(queue), 0, -1)]


def test_threads_and_tasks_share_a_limit_in_the_order_of_arrival(new_fetch):
    jobs = [kind.defer(number) for number, kind in enumerate([OneAwait, OneThread, OneThread, OneAwait])]
    fetch = new_fetch("w1", threads=2, tasks=5)
    done = []

    threads, tasks = claim_all(fetch)
    assert {job.state for job in jobs[1:]} == {"limited"}
    while threads or tasks:
        assert len(threads) + len(tasks) == 1
        done += [*threads, *tasks]
        finish(fetch, *threads.values(), *tasks.values())
        threads, tasks = claim_all(fetch)

    assert done == [job.id for job in jobs]
    assert not get_connection("default").keys("jobs:slots*")


def test_a_job_whose_kind_has_no_room_stays_in_its_place(new_fetch):
    fetch = new_fetch("w1", threads=2, tasks=1)
    running = Await.defer()
    assert list(claim_all(fetch)[1]) == [running.id]
    limited, plain, other = OneAwait.defer(1), Await.defer(), WriteNote.defer("x")

    assert [list(claims) for claims in claim_all(fetch)] == [[other.id], []]
    assert listed() == [limited.id, plain.id]
    assert {limited.state, plain.state} == {"queued"}
    assert fetch._steps.has_left


def test_what_its_limit_refuses_takes_no_place_of_the_loop(new_fetch):
    first, *others = OneAwait.defer_many([(number,) for number in range(45)])
    plain, note = Await.defer(), WriteNote.defer("x")
    fetch = new_fetch("w1", threads=1, tasks=2)

    assert [list(claims) for claims in claim_all(fetch)] == [[note.id], [first.id, plain.id]]
    assert get_connection("default").llen(LANE) == len(others)
    assert listed() == []


def test_threads_take_jobs_with_limits_when_idle_only_and_tasks_go_on(new_fetch):
    shops = OnePerShop.defer_many([(str(number),) for number in range(4)])
    tasks, note = Await.defer_many([()] * 3), WriteNote.defer("x")
    low = Await.defer(queue="low")
    fetch = new_fetch("w1", threads=2, tasks=10)
    fetch.pace.batch = 16

    assert [list(claims) for claims in claim_all(fetch)] == [
        [job.id for job in shops[:2]],
        [*(job.id for job in tasks), low.id],
    ]
    assert listed() == [shops[2].id, shops[3].id, note.id]


def test_of_a_list_so_many_stay_and_no_more_of_it_is_looked_at(new_fetch):
    fetch = new_fetch("w1", threads=1, tasks=5)
    WriteNote.defer_many([(str(number),) for number in range(90)])
    near = Await.defer()
    WriteNote.defer_many([(str(number),) for number in range(20)])
    far, low = Await.defer(), Await.defer(queue="low")

    assert [len(claims) for claims in claim_all(fetch)] == [1, 2]
    assert near.state == "running"
    assert low.state == "running"
    assert far.state == "queued"


def test_one_that_is_woken_in_a_step_is_claimed_before_those_that_stay(new_fetch):
    jobs = TwoAwait.defer_many([()] * 4)
    fetch = new_fetch("w1", threads=1, tasks=5)
    claims = claim_all(fetch)[1]
    notes = WriteNote.defer_many([(str(number),) for number in range(10)])
    busy, _ = claim_all(fetch)
    finish(fetch, *claims.values())

    assert [list(each) for each in claim_all(fetch)] == [[], [job.id for job in jobs[2:]]]
    assert listed() == [job.id for job in notes[1:]]
    finish(fetch, *busy.values())


def test_one_step_moves_so_many_to_lanes_and_is_asked_again(new_fetch):
    OneAwait.defer_many([(number,) for number in range(120)])
    other = WriteNote.defer("x", queue="low")
    fetch = new_fetch("w1", threads=3, tasks=50)

    assert [len(claims) for claims in claim_all(fetch)] == [0, 1]
    assert get_connection("default").llen(LANE) == 50
    assert fetch._steps.until_due == 0
    assert other.state == "queued"

    while (claims := claim_all(fetch)) == ({}, {}):
        assert other.state == "queued"
    assert list(claims[0]) == [other.id]
    assert get_connection("default").llen(LANE) == 119


def test_the_slot_of_a_task_whose_claim_is_dropped_is_freed(new_fetch):
    first, second = OneAwait.defer_many([(1,), (2,)])
    fetch = new_fetch("w1", tasks=5)
    fetch._steps.send(fetch._order(), fetch._room)
    control.cancel(first)
    fetch.forget(first.id)

    assert list(claim_all(fetch)[1]) == [second.id]


def test_a_retry_keeps_what_its_record_says(new_fetch):
    job = OneAwait.defer(1)
    fetch = new_fetch("w1", tasks=5)
    (claim,) = claim_all(fetch)[1].values()
    finish(fetch, claim, outcome=Retried(0, "no", "", Progress(attempts=1)))
    (again,) = claim_all(fetch)[1].values()

    assert set(get_connection("default").hget(job.key, "more").decode()) == {"a", "l", "1"}
    assert again.progress.attempts == 1


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_one_at_a_time_in_threads_and_on_the_loop(worker_process, tmp_path):
    path, client = str(tmp_path / "alone"), get_connection("default")
    jobs = [kind.defer(path) for kind in (Alone, AloneAwait) * 10]
    for job in jobs[10:14]:  # as an older release enqueues them
        client.hdel(job.key, "limits", "more")
    assert worker_process("default", concurrency=3, async_concurrency=10, burst=True).wait() == 0

    assert {job.state for job in jobs} == {"finished"}
    assert not client.keys("jobs:slots*")
