"""Claims of dead workers return to the heads of their queues: each job once, however many workers recover."""

import threading

import pytest

from jobs.attempts.outcomes import Requeued, Retried
from jobs.broker.connections import get_connection
from jobs.inspection import JobQuery
from jobs.job import JobState
from jobs.retries import Progress
from jobs.worker.connection import Wire
from jobs.worker.promotion import Promotion
from jobs.worker.recovery import bury, recover
from tests.sample.commands.notes import WriteNote


@pytest.fixture
def held(new_fetch):
    """Six jobs, three of them claimed by a worker that is dead."""
    jobs = WriteNote.defer_many([(str(n),) for n in range(6)])
    fetch = new_fetch("dead", threads=3)
    fetch._step(claims=True)
    get_connection("default").zadd("jobs:workers", {"dead": 1})
    return jobs


@pytest.fixture
def full_server(valkey):
    with valkey.client() as client:
        client.config_set("maxmemory", 1)
        yield
        client.config_set("maxmemory", 0)


def listed():
    return [i.decode() for i in get_connection("default").lrange("rq:queue:default", 0, -1)]


def test_claims_go_back_to_the_head_in_their_order(held, places):
    back, dead = recover(Wire("default"), "default")

    assert [job_id for job_id, _ in reversed(back)] == [job.id for job in held[:3]]
    assert dead == []
    assert listed() == [job.id for job in held]
    assert all(job.state == "queued" for job in held)
    assert int(get_connection("default").hget(held[0].key, "interruptions")) == 1


def test_claims_of_living_workers_are_kept(held, new_fetch):
    fetch = new_fetch("alive", threads=2)
    fetch._step(claims=True)
    assert len(fetch.held) == 2
    recover(Wire("default"), "default")

    assert len(listed()) == 4
    assert get_connection("default").zcard("rq:wip:default") == 2


def test_many_recover_at_once_and_each_job_goes_back_once(held, places):
    results = []
    start = threading.Barrier(8)

    def one():
        wire = Wire("default")
        start.wait()
        results.append(recover(wire, "default"))

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(job for back, _ in results for job, _ in back) == sorted(job.id for job in held[:3])
    assert listed() == [job.id for job in held]


def test_a_due_job_that_is_no_job_stops_no_other(places):
    client = get_connection("default")
    jobs = [WriteNote.defer("x", wait=60), WriteNote.using(queue="low").defer("y", wait=60)]
    client.set("rq:job:bad", "somebody's")
    client.zadd("rq:scheduled:default", {"bad": 1, jobs[0].id: 2})
    client.zadd("rq:scheduled:low", {jobs[1].id: 2})
    assert Promotion(Wire("default")).run(["default", "low"]) == 3

    assert [job.state for job in jobs] == ["queued", "queued"]
    assert places()["bad"] == ["failed:default"]


def test_what_is_known_to_be_held_is_kept_and_what_had_not_begun_was_not_interrupted(held, new_fetch):
    back, _ = recover(Wire("default"), "default", only="dead", begun=0, kept=["dead.1"])

    assert {job for job, _ in back} == {held[0].id, held[2].id}
    assert [get_connection("default").hget(job.key, "interruptions") for job in held[:3]] == [b"1", None, None]


def test_stock_rq_workers_claims_are_rqs_own(held):
    client = get_connection("default")
    client.zadd("rq:wip:default", {f"{held[5].id}:{'a' * 32}": 9_999_999_999})
    recover(Wire("default"), "default")

    assert client.zrange("rq:wip:default", 0, -1) == [f"{held[5].id}:{'a' * 32}".encode()]


def test_the_third_interruption_is_poison_and_names_the_workers(new_fetch, places):
    job = WriteNote.defer("x")
    for life in range(3):
        new_fetch(f"w{life}")._step(claims=True)
        get_connection("default").zadd("jobs:workers", {f"w{life}": 1})
        back, dead = recover(Wire("default"), "default")

    assert (back, dead) == ([], [(job.id, "w2")])
    assert places() == {job.id: ["failed:default"]}
    assert (job.state, job.reason) == ("dead", "poison")
    assert get_connection("default").hget(job.key, "interrupted_by") == b"w0 w1 w2"
    (row,) = JobQuery(state=JobState.DEAD).page().rows
    assert row.attempts == 3
    assert "Poison: 3 worker processes died" in job.latest_result().exc_string


def test_only_what_is_suspect_counts_towards_poison(new_fetch):
    """Two deaths by the job itself, with any number of stops and deaths by other jobs between them, are not poison."""
    job, client = WriteNote.defer("x"), get_connection("default")
    for life, suspect in enumerate([True, False, False, True, False, False]):
        fetch = new_fetch(f"w{life}")
        fetch._step(claims=True)
        suspects = [f"w{life}.0"] if suspect else [f"w{life}.1"]
        assert recover(Wire("default"), "default", only=f"w{life}", suspects=suspects)[1] == []

    assert job.state == "queued"
    assert client.hmget(job.key, "interruptions", "survived") == [b"6", b"4"]
    assert len(client.hget(job.key, "interrupted_by").split()) == 6
    assert [event.name for event in job.history].count("interrupted") == 6
    new_fetch("w6")._step(claims=True)
    client.zadd("jobs:workers", {"w6": 1})
    recover(Wire("default"), "default")  # found dead by its silence: nobody knows why
    assert job.state == "dead"


def test_jobs_that_a_stop_puts_back_are_not_suspect_and_unbegun_ones_not_interrupted(new_fetch):
    jobs, client = WriteNote.defer_many([("begun",), ("waiting",)]), get_connection("default")
    for life in range(4):
        fetch = new_fetch(f"w{life}")
        fetch._step(claims=True)
        claim = fetch._ready[0]
        fetch._board.start(0, 1.0, 2.0, claim.id, claim.execution, claim.queue)
        fetch.put_back_running()

    assert [job.state for job in jobs] == ["queued", "queued"]
    assert [client.hmget(job.key, "interruptions", "survived") for job in jobs] == [[b"4", b"4"], [None, None]]


def poisoned(new_fetch, *names):
    """Return the jobs that recovery declares dead after the last of these workers has died under one."""
    for name in names:
        new_fetch(name)._step(claims=True)
        get_connection("default").zadd("jobs:workers", {name: 1})
        _, dead = recover(Wire("default"), "default")
    return dead


heard = []


def hear(job, error):
    heard.append((job.id, job.state, error.workers))


def test_on_dead_handlers_are_called_for_poison_by_a_job_in_its_queue(new_fetch, worker, settings, caplog):
    heard.clear()
    settings.JOBS = {**settings.JOBS, "ON_DEAD": [f"{__name__}.hear"]}
    job = WriteNote.defer("x")
    bury("default", poisoned(new_fetch, "w0", "w1", "w2"))

    assert f"dead: job {job.id}: poison, interrupted too often, last on worker w2" in caplog.text
    assert heard == []  # who recovers runs no code of the project's
    assert len(listed()) == 1
    worker.run()
    assert heard == [(job.id, "dead", ["w0", "w1", "w2"])]


def test_no_handler_is_called_for_poison_without_handlers_or_without_the_job(new_fetch, worker, settings):
    heard.clear()
    WriteNote.defer("x")
    bury("default", poisoned(new_fetch, "w0", "w1", "w2"))
    assert listed() == []

    settings.JOBS = {**settings.JOBS, "ON_DEAD": [f"{__name__}.hear"]}
    bury("default", [("no-job", "w2")])
    assert worker.run() == 1
    assert heard == []


def test_a_handler_that_kills_workers_is_not_called_for_itself(new_fetch, worker, settings):
    heard.clear()
    settings.JOBS = {**settings.JOBS, "ON_DEAD": [f"{__name__}.hear"]}
    WriteNote.defer("x")
    bury("default", poisoned(new_fetch, "w0", "w1", "w2"))
    bury("default", poisoned(new_fetch, "w3", "w4", "w5"))  # interrupted the job that reports the first one
    assert len(listed()) == 1
    worker.run()
    assert (heard, listed()) == ([], [])


def test_poison_in_a_queue_of_another_project_is_only_logged(settings, caplog):
    settings.JOBS = {**settings.JOBS, "ON_DEAD": [f"{__name__}.hear"]}
    bury("theirs", [("some-job", "w2")])
    assert "dead: job some-job: poison" in caplog.text
    assert 'the handlers of JOBS["ON_DEAD"] are not called for job some-job: Unknown queue' in caplog.text


def test_recovery_works_on_a_full_server(full_server, settings, caplog):
    settings.JOBS = {**settings.JOBS, "ON_DEAD": [f"{__name__}.hear"]}
    bury("default", [("some-job", "w2"), ("another-job", "w2")])
    assert 'the handlers of JOBS["ON_DEAD"] are not called for job another-job: ' in caplog.text


@pytest.mark.parametrize("again", [Retried(0, "oh", "", Progress()), Requeued(0, Progress())], ids=["retry", "requeue"])
def test_an_attempt_that_ends_by_itself_clears_a_job_of_the_suspicion(again, new_fetch, places):
    """A job that is requeued for weeks is not poison at the third deployment that interrupts it."""
    job, client = WriteNote.defer("x"), get_connection("default")

    def interrupt(name):
        new_fetch(name)._step(claims=True)
        client.zadd("jobs:workers", {name: 1})
        recover(Wire("default"), "default")

    interrupt("w0")
    interrupt("w1")
    fetch = new_fetch("w2")
    fetch._step(claims=True)
    fetch.commits.add(next(iter(fetch.held.values())), again, "sample.WriteNote", 0.0)
    fetch._step(claims=False)
    interrupt("w3")
    interrupt("w4")
    assert job.state == "queued"
    interrupt("w5")
    assert job.state == "dead"


def test_a_job_deleted_during_recovery_leaves_no_keys(held, places):
    get_connection("default").delete(held[0].key)
    recover(Wire("default"), "default")

    assert held[0].id not in places()


def test_due_jobs_are_promoted_in_order_by_one_at_a_time(valkey):
    jobs = [WriteNote.defer(str(n), wait=3_600) for n in range(3)]
    client = get_connection("default")
    for at, job in zip((30, 10, 20), jobs, strict=True):
        client.zadd("rq:scheduled:default", {job.id: at})
    later = WriteNote.defer("later", wait=60)

    first, second = Promotion(Wire("default")), Promotion(Wire("default"))
    assert first.run(["default"]) == 3
    assert second.run(["default"]) == 0
    assert listed() == [jobs[1].id, jobs[2].id, jobs[0].id]
    assert (jobs[0].state, later.state) == ("queued", "scheduled")

    WriteNote.defer("now due", wait=60)
    client.zadd("rq:scheduled:default", dict.fromkeys(client.zrange("rq:scheduled:default", 0, -1), 1))
    second.end()  # not its lease: frees nothing
    assert second.run(["default"]) == 0
    first.end()
    assert second.run(["default"]) == 2


def test_a_due_id_without_a_job_is_dropped(places):
    get_connection("default").zadd("rq:scheduled:default", {"gone": 1})
    Promotion(Wire("default")).run(["default"])

    assert places() == {}


@pytest.mark.parametrize("dead", [True, False])
def test_thousands_of_claims_are_looked_at_in_slices_and_their_order_stays(dead, valkey, monkeypatch):
    client = get_connection("default")
    ids = [f"job{n}" for n in range(1_100)]
    for n, job_id in enumerate(ids):
        client.hset(f"rq:job:{job_id}", mapping={"status": "started", "origin": "default"})
        worker = "dead" if dead or n % 2 else "alive"
        client.zadd("rq:wip:default", {f"{job_id}:{worker}.{n}": 9e9 + n})
    client.zadd("jobs:workers", {"alive": 9e9})
    wire = Wire("default")
    sizes = []

    def run(script, places, *words):
        answer = Wire.run(wire, script, places, *words)
        sizes.append(len(answer[0]))
        return answer

    monkeypatch.setattr(wire, "run", run)
    assert len(recover(wire, "default").given_back) == (1_100 if dead else 550)
    assert listed() == (ids if dead else ids[1::2])
    assert max(sizes) <= 25
    assert recover(wire, "default", until=0.0) == ([], [])


def test_what_does_not_fit_into_a_moment_is_recovered_the_next_time(valkey):
    client = get_connection("default")
    for n in range(60):
        client.hset(f"rq:job:job{n}", mapping={"status": "started", "origin": "default"})
        client.zadd("rq:wip:default", {f"job{n}:dead.{n}": 9e9 + n})
    back = [len(recover(Wire("default"), "default", until=0.0).given_back) for _ in range(3)]
    assert back == [25, 25, 10]
    assert listed() == [f"job{n}" for n in range(60)]
