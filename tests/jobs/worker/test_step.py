"""The step script: claims and commits in one atomic step, each job by itself, also when a step is sent twice."""

import re

import pytest
from django.core.management import CommandError, call_command
from redis.exceptions import ConnectionError as RedisConnectionError

from jobs.attempts.outcomes import Dead, Discarded, Finished, GivenBack, Requeued, Retried, Waiting
from jobs.broker.connections import get_connection
from jobs.retries import Progress
from jobs.worker.pace import LAST
from tests.sample.commands.notes import WriteNote


def claim_all(fetch):
    fetch._step(claims=True)
    claims = list(fetch._ready)
    fetch._ready.clear()
    return claims


def finish(fetch, claim, outcome=None):
    fetch.commits.add(claim, outcome or Finished(None, 500), "sample.WriteNote", 0.001)


def be_quick(fetch, seconds=0.00001):
    """Let its last attempts have taken so long."""
    for _ in range(LAST):
        fetch.pace.add(seconds)
    fetch.pace.judge()


def test_a_claim_moves_the_job_and_marks_it_started_at_once(new_fetch, places):
    job = WriteNote.defer("x")
    (claim,) = claim_all(new_fetch("w1"))

    assert (claim.job_id, claim.queue_name, claim.execution) == (job.id, "default", b"w1.0")
    assert places() == {job.id: ["wip:default"]}
    assert job.state == "running"


@pytest.mark.parametrize("late", [Retried(0, "late", "Traceback", Progress()), Finished(None, 500)])
@pytest.mark.parametrize("first", [Retried(0, "given up", "Traceback", Progress()), Dead("given up", "Traceback")])
def test_of_two_outcomes_of_an_execution_in_one_step_the_first_counts(new_fetch, places, first, late):
    """A thread that was given up comes back while the outcome that was decided without it waits for the server."""
    job = WriteNote.defer("x")
    fetch = new_fetch("w1")
    (claim,) = claim_all(fetch)
    finish(fetch, claim, first)
    finish(fetch, claim, late)
    fetch.flush()

    place = "queue:default" if isinstance(first, Retried) else "failed:default"
    assert places() == {job.id: [place]}
    assert get_connection("default").llen("rq:queue:default") == isinstance(first, Retried)


def test_no_more_is_claimed_than_threads_are_idle(new_fetch):
    WriteNote.defer_many([("x",)] * 10)
    fetch = new_fetch("w1", threads=3)

    first = claim_all(fetch)
    assert len(first) == 3
    assert claim_all(fetch) == []
    finish(fetch, first[0])
    assert len(claim_all(fetch)) == 1


def test_short_jobs_are_claimed_in_batches_and_given_back_in_order(new_fetch):
    jobs = WriteNote.defer_many([(str(n),) for n in range(30)])
    fetch = new_fetch("w1", threads=3)
    fetch.pace.batch = 16
    fetch._step(claims=True)
    assert len(fetch.held) == 16

    running = fetch._ready.popleft()
    fetch.give_back()

    ids = [i.decode() for i in get_connection("default").lrange("rq:queue:default", 0, -1)]
    assert ids == [job.id for job in jobs[1:]]
    assert list(fetch.held.values()) == [running]


def test_a_batch_of_one_is_never_more_than_threads_are_idle(new_fetch, settings):
    settings.JOBS = settings.JOBS | {"BATCH": 1}
    WriteNote.defer_many([("x",)] * 30)
    fetch = new_fetch("w1", threads=3)
    be_quick(fetch)
    assert len(claim_all(fetch)) == 3

    settings.JOBS = settings.JOBS | {"BATCH": 5}
    fetch = new_fetch("w2", threads=3)
    be_quick(fetch)
    assert len(claim_all(fetch)) == 5


@pytest.mark.parametrize("impossible", [0, -1, 2.0, "16", True, None])
def test_a_worker_with_an_impossible_batch_does_not_start(impossible, settings):
    settings.JOBS = settings.JOBS | {"BATCH": impossible}

    with pytest.raises(CommandError, match=re.escape(f"JOBS['BATCH'] is {impossible!r}")):
        call_command("rqworker", burst=True)


def test_priority_is_the_listed_order(new_fetch):
    low = WriteNote.defer_many([("x",)] * 5, queue="low")
    critical = WriteNote.defer_many([("x",)] * 2, queue="critical")

    claims = claim_all(new_fetch("w1", threads=3))

    assert [c.job_id for c in claims] == [*(job.id for job in critical), low[0].id]


def test_weights_share_the_turns_in_proportion(new_fetch):
    WriteNote.defer_many([("x",)] * 400, queue="critical")
    WriteNote.defer_many([("x",)] * 400, queue="low")
    fetch = new_fetch("w1", threads=1, queues=("critical", "low"), weights=(3, 1))
    taken = []
    while len(taken) < 400:
        (claim,) = claim_all(fetch)
        taken.append(claim.queue_name)
        finish(fetch, claim, Finished(None, 0))

    assert 240 < taken.count("critical") < 360  # 300 expected; the bounds are 7 standard deviations away


def test_a_paused_queue_is_left_alone(new_fetch):
    WriteNote.defer("x")
    fetch = new_fetch("w1")
    fetch._board.pause(1, True)
    assert claim_all(fetch) == []
    fetch._board.pause(1, False)
    assert len(claim_all(fetch)) == 1


OUTCOMES = {
    "finished": (Finished(b'"done"', 500), "finished:default", "finished"),
    "dead": (Dead("why", "Traceback"), "failed:default", "dead"),
    "discarded": (Discarded("why"), "canceled:default", "discarded"),
    "given back": (GivenBack(), "queue:default", "queued"),
}


@pytest.mark.parametrize(("outcome", "place", "state"), OUTCOMES.values(), ids=OUTCOMES)
def test_every_outcome_leaves_the_job_in_one_place(outcome, place, state, new_fetch, places):
    job = WriteNote.defer("x")
    fetch = new_fetch("w1")
    (claim,) = claim_all(fetch)
    finish(fetch, claim, outcome)
    fetch.flush()

    assert places() == {job.id: [place]}
    assert job.state == state
    assert fetch.held == {}


def test_a_result_that_is_not_kept_leaves_nothing(new_fetch, valkey):
    job = WriteNote.defer("x")
    fetch = new_fetch("w1")
    (claim,) = claim_all(fetch)
    finish(fetch, claim, Finished(None, 0))
    fetch.flush()

    assert [key for key in valkey.client().scan_iter() if job.id.encode() in key] == []


def test_counts_are_those_of_the_outcomes(new_fetch, valkey):
    WriteNote.defer_many([("x",)] * 3)
    fetch = new_fetch("w1")
    claims = claim_all(fetch)
    for claim in claims[:2]:
        finish(fetch, claim)
    finish(fetch, claims[2], Dead("why", "Traceback"))
    fetch.flush()

    client = valkey.client()
    (key,) = client.keys("jobs:counts:*")
    assert client.hgetall(key) == {
        b"default|sample.WriteNote|finished|10": b"2",
        b"default|sample.WriteNote|dead|10": b"1",
    }
    assert 0 < client.ttl(key) <= 73 * 3600


@pytest.mark.parametrize("lost", ["the request", "the answer"])
def test_after_a_lost_step_nothing_is_lost_and_nothing_counted_twice(lost, new_fetch, places, valkey, monkeypatch):
    WriteNote.defer_many([("x",)] * 4)
    fetch = new_fetch("w1", threads=2)
    claims = claim_all(fetch)
    for claim in claims:
        finish(fetch, claim)
    finish_call = fetch._wire.finish

    def broken(*args):
        if lost == "the answer":
            finish_call()
        raise RedisConnectionError("cut")

    monkeypatch.setattr(fetch._wire, "finish" if lost == "the answer" else "start", broken)
    with pytest.raises(RedisConnectionError):
        fetch._step(claims=True)
    monkeypatch.undo()
    fetch._ready.clear()
    again = claim_all(fetch)

    assert len(again) == 2
    assert sorted(fetch.held) == sorted(claim.execution for claim in again)
    assert sorted(place for (place,) in places().values()) == ["finished:default"] * 2 + ["wip:default"] * 2
    (counts,) = valkey.client().keys("jobs:counts:*")
    assert sum(map(int, valkey.client().hvals(counts))) == 2


def test_a_late_result_is_refused_and_logged(new_fetch, places, caplog):
    job = WriteNote.defer("x")
    late, other = new_fetch("w1"), new_fetch("w2")
    (claim,) = claim_all(late)
    client = get_connection("default")
    client.zrem("rq:wip:default", f"{job.id}:w1.0")
    client.lpush("rq:queue:default", job.id)
    claim_all(other)

    finish(late, claim)
    late.flush()

    assert places() == {job.id: ["wip:default"]}
    assert f"refused late result of job {job.id}: taken over by w2" in caplog.text


def test_one_bad_key_stops_nothing_else(new_fetch, places, valkey):
    jobs = WriteNote.defer_many([(str(n),) for n in range(3)])
    client = valkey.client()
    client.delete(jobs[0].key)
    client.set(jobs[0].key, "no hash")
    fetch = new_fetch("w1")

    claims = claim_all(fetch)
    assert [c.job_id for c in claims] == [jobs[1].id, jobs[2].id]
    assert places()[jobs[0].id] == ["failed:default"]

    client.delete(jobs[1].key)
    client.set(jobs[1].key, "no hash")
    for claim in claims:
        finish(fetch, claim, Finished(b"1", 500))
    assert not fetch.flush()
    assert places()[jobs[2].id] == ["finished:default"]
    assert places()[jobs[1].id] == ["failed:default"]
    assert fetch.flush()  # it is not sent for ever, and holds no thread's place
    assert not fetch.held


def test_results_that_are_no_stream_make_room_for_one(new_fetch, places, valkey):
    job = WriteNote.defer("x")
    fetch = new_fetch("w1")
    (claim,) = claim_all(fetch)
    valkey.client().set(f"rq:results:{job.id}", "no stream")
    finish(fetch, claim, Finished(b"1", 500))
    assert fetch.flush()
    assert places()[job.id] == ["finished:default"]
    assert [result.return_value for result in job.results()] == [1]


def test_an_id_whose_job_was_deleted_is_dropped(new_fetch, places):
    jobs = WriteNote.defer_many([("x",), ("y",)])
    get_connection("default").delete(jobs[0].key)

    assert [c.job_id for c in claim_all(new_fetch("w1"))] == [jobs[1].id]
    assert jobs[0].id not in places()


def test_a_job_whose_record_has_lost_its_payload_is_dead_with_the_reason(new_fetch, places):
    jobs = WriteNote.defer_many([("x",), ("y",)])
    after = WriteNote.defer("z", prereq_jobs=[jobs[0]])
    jobs[0].connection.hdel(jobs[0].key, "data")

    assert [c.job_id for c in claim_all(new_fetch("w1"))] == [jobs[1].id]
    assert places()[jobs[0].id] == ["failed:default"]
    assert (jobs[0].state, jobs[0].reason) == ("dead", "PayloadError: Its record has no payload.")
    assert 0 < jobs[0].connection.ttl(jobs[0].key) <= 180 * 86_400
    assert [event.name for event in jobs[0].history][-1] == "failed"
    assert after.state == "blocked"


def test_a_full_server_loses_nothing(new_fetch, places, valkey):
    jobs = WriteNote.defer_many([("x",)] * 3)
    client = valkey.client()
    fetch = new_fetch("w1", threads=2)
    claims = claim_all(fetch)
    client.config_set("maxmemory", "1mb")
    try:
        for claim in claims:
            finish(fetch, claim, Finished(b"1", 500))
        fetch._step(claims=True)
        assert len(fetch._steps._unsent) == 2
        assert [place for (place,) in places().values()].count("wip:default") == 2
        assert places()[jobs[2].id] == ["queue:default"]
    finally:
        client.config_set("maxmemory", "0")
    fetch._step(claims=True)

    assert sorted(place for (place,) in places().values()) == ["finished:default"] * 2 + ["wip:default"]


def test_a_script_that_the_server_has_lost_is_sent_again(new_fetch, valkey):
    fetch = new_fetch("w1")
    WriteNote.defer("x")
    assert len(claim_all(fetch)) == 1
    valkey.client().script_flush()
    WriteNote.defer("y")
    assert len(claim_all(fetch)) == 1


def test_a_worker_that_may_be_declared_dead_claims_nothing(new_fetch, valkey):
    WriteNote.defer("x")
    fetch = new_fetch("w1")
    valkey.client().zadd("jobs:workers", {"w1": 1})
    assert claim_all(fetch) == []
    valkey.client().zrem("jobs:workers", "w1")
    assert claim_all(fetch) == []


def test_a_connection_may_be_lost_any_number_of_times(new_fetch):
    wire = new_fetch("w1")._wire
    for _ in range(300):
        assert wire.call("PING") == b"PONG"
        wire.close()


@pytest.mark.parametrize("number", [1, 16])
def test_a_plain_job_costs_three_calls_and_a_step_ten_for_all_its_jobs(number, new_fetch, valkey):
    WriteNote.defer_many([("x",)] * 2 * number)
    fetch, client = new_fetch("w1", threads=number, queues=("default",)), valkey.client()
    for claim in claim_all(fetch):
        finish(fetch, claim, Finished(None, 0))
    client.config_resetstat()
    assert len(claim_all(fetch)) == number

    calls = {name.removeprefix("cmdstat_"): each["calls"] for name, each in client.info("commandstats").items()}
    of_each_job = {"zscore": number + 1, "hmget": number, "hset": number}  # and one ZSCORE: whether the worker is alive
    of_commits = dict.fromkeys(("exists", "del", "zrem", "hincrby", "expire"), 1)
    of_claims = dict.fromkeys(("time", "lrange", "zadd", "ltrim"), 1)
    ours = {"evalsha", "config|resetstat", "info"}
    assert {name: n for name, n in calls.items() if name not in ours} == of_each_job | of_commits | of_claims


def test_outcomes_of_several_kinds_and_queues_are_written_by_one_step(new_fetch, places):
    outcomes = [Finished(None, 0), Finished(b"1", 500), Dead("why", "Traceback"), Discarded("why"), GivenBack()]
    outcomes += [Requeued(0, Progress()), Retried(60, "why", "Traceback", Progress()), Waiting()]
    queues = ("critical", "low")
    jobs = [WriteNote.defer_many([("x",)] * len(outcomes), queue=queue) for queue in queues]
    fetch = new_fetch("w1", threads=2 * len(outcomes), queues=queues)
    for claim, outcome in zip(claim_all(fetch), outcomes * 2, strict=True):
        finish(fetch, claim, outcome)
    assert fetch.flush()

    kinds = ["", "finished", "failed", "canceled", "queue", "queue", "scheduled", "queue"]
    expected = {
        job.id: [f"{kind}:{queue}"]
        for queue, of_queue in zip(queues, jobs, strict=True)
        for kind, job in zip(kinds, of_queue, strict=True)
        if kind
    }
    assert places() == expected
    client = get_connection("default")
    for queue, of_queue in zip(queues, jobs, strict=True):
        ids = [of_queue[at].id.encode() for at in (4, 5, 7)]  # given back to the head; the others at the tail
        assert client.lrange(f"rq:queue:{queue}", 0, -1) == ids
        assert [of_queue[at].reason for at in (2, 3, 6)] == ["why"] * 3
        assert [event.name for event in of_queue[6].history][-2:] == ["failed", "retried"]
        assert of_queue[1].results()[0].return_value == 1


def test_more_outcomes_than_one_command_takes_are_written_by_one_step(new_fetch, places, valkey):
    WriteNote.defer_many([("x",)] * 1_201)
    fetch = new_fetch("w1", threads=1_201)
    for at, claim in enumerate(claim_all(fetch)):
        finish(fetch, claim, Finished(b"1", 500) if at % 2 else Finished(None, 0))
    assert fetch.flush()
    assert valkey.client().zcard("rq:finished:default") == 600
    assert [place for (place,) in places().values()] == ["finished:default"] * 600
    (counts,) = valkey.client().keys("jobs:counts:*")
    assert valkey.client().hvals(counts) == [b"1201"]


def test_a_burst_ends_at_once_when_nothing_waited_any_more(new_fetch):
    first = WriteNote.defer("first")
    WriteNote.defer("then", prereq_jobs=[first])
    fetch = new_fetch("w1", burst=True, release=lambda member: get_connection("default").delete("jobs:releasing"))
    (claim,) = claim_all(fetch)
    finish(fetch, claim)
    assert fetch.take() is None
