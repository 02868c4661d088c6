"""RQ's code writes the outcome of a plain job; the worker's next step counts it and releases those that wait for it."""

import django_rq
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from jobs import control
from jobs.attempts.interrupt import Interruptible
from jobs.attempts.outcomes import Dead, GivenBack, Recorded
from jobs.broker.connections import get_connection
from jobs.job import MandateJob
from jobs.worker.connection import Wire
from jobs.worker.recovery import recover
from jobs.worker.release import release
from jobs.worker.rq_jobs import PlainRunner
from tests.jobs.worker.test_step import claim_all, finish
from tests.sample import functions
from tests.sample.commands.notes import WriteNote

CLAIMS = "jobs:plain:default"


@pytest.fixture
def plain(new_fetch, valkey):
    """A plain job that a fetch has claimed, and a command that waits for the job."""
    job = django_rq.get_queue("default").enqueue(functions.add, 2, 3)
    waiting = WriteNote.defer("after", prereq_jobs=[job.id])
    fetch = new_fetch("w1", release=lambda member: release(get_connection("default"), member))
    (claim,) = claim_all(fetch)
    return fetch, claim, waiting


def written_by_rq(client, claim, status):
    """What RQ's transaction does to the job and its claim."""
    if status is None:
        client.delete(f"rq:job:{claim.job_id}")
    else:
        client.hset(f"rq:job:{claim.job_id}", "status", status)
    client.zrem("rq:wip:default", f"{claim.job_id}:{claim.execution.decode()}")


@pytest.mark.parametrize(
    ("status", "releases"),
    [("finished", True), (None, True), ("failed", False), ("queued", False), ("started", False)],
)
def test_a_worker_that_dies_after_rqs_write_strands_no_dependents(status, releases, plain, valkey):
    _, claim, _ = plain
    client = valkey.client()
    written_by_rq(client, claim, status)
    client.zrem("jobs:workers", "w1")
    recover(Wire("default"), "default")
    assert client.smembers("jobs:releasing") == ({f"jobs:dependents:{claim.job_id}".encode()} if releases else set())
    assert not client.exists(CLAIMS)


def test_a_deleted_job_has_not_finished(plain, valkey):
    _, claim, _ = plain
    client = valkey.client()
    written_by_rq(client, claim, "finished")
    control.delete(MandateJob.fetch(claim.job_id, connection=client))
    client.zrem("jobs:workers", "w1")
    recover(Wire("default"), "default")
    assert not client.exists("jobs:releasing", CLAIMS)


def test_a_job_that_is_deleted_before_the_next_step_has_not_finished(plain, valkey):
    fetch, claim, waiting = plain
    client = valkey.client()
    written_by_rq(client, claim, "finished")
    control.delete(MandateJob.fetch(claim.job_id, connection=client))
    finish(fetch, claim, Recorded(finished=True))
    fetch.flush()
    assert waiting.state == "blocked"
    assert not client.exists("jobs:releasing", CLAIMS)


def test_what_waits_for_any_end_is_released_if_rqs_cancel_takes_the_claim(plain, valkey):
    """RQ's code removes the claims that it knows: those of jobs that have run for longer than a beat."""
    fetch, claim, waiting = plain
    client = valkey.client()
    after = WriteNote.defer("after any end", prereq_jobs=[claim.job_id], prereq_failure="run")
    written_by_rq(client, claim, "canceled")
    finish(fetch, claim, GivenBack())
    fetch.flush()
    assert (after.state, waiting.state) == ("queued", "blocked")
    assert not client.exists(CLAIMS)


def test_claims_that_are_still_held_or_of_the_living_stay(plain, valkey):
    _, claim, _ = plain
    client = valkey.client()
    written_by_rq(client, claim, "finished")
    recover(Wire("default"), "default")
    recover(Wire("default"), "default", only="w1", kept=[claim.execution])
    recover(Wire("default"), "default", only="w1", before=0)
    assert client.scard(CLAIMS) == 1
    assert not client.exists("jobs:releasing")


@pytest.mark.parametrize("end", ["given back", "taken by recovery", "cancelled"])
def test_a_claim_that_ends_otherwise_leaves_nothing(end, plain, valkey):
    fetch, claim, _ = plain
    client = valkey.client()
    assert client.scard(CLAIMS) == 1
    if end == "given back":
        finish(fetch, claim, GivenBack())
        fetch.flush()
    elif end == "cancelled":
        control.cancel(MandateJob.fetch(claim.job_id, connection=client))
    else:
        client.zrem("jobs:workers", "w1")
        recover(Wire("default"), "default")
    assert not client.exists(CLAIMS, "rq:wip:default")


def test_an_attempt_whose_step_lost_its_answer_is_counted_once(plain, valkey, monkeypatch):
    fetch, claim, _ = plain
    client = valkey.client()
    written_by_rq(client, claim, "finished")
    finish(fetch, claim, Recorded(finished=True))
    answer = fetch._wire.finish

    def cut():
        answer()
        raise RedisConnectionError("cut")

    monkeypatch.setattr(fetch._wire, "finish", cut)
    with pytest.raises(RedisConnectionError):
        fetch._step(claims=False)
    monkeypatch.undo()
    fetch.flush()
    (counts,) = client.keys("jobs:counts:*")
    assert list(client.hgetall(counts).values()) == [b"1"]
    assert not client.exists(CLAIMS)


def test_dependents_that_a_full_server_does_not_release_are_released_later(plain, valkey):
    fetch, claim, waiting = plain
    client = valkey.client()
    written_by_rq(client, claim, "finished")
    finish(fetch, claim, Recorded(finished=True))
    client.config_set("maxmemory", 1)
    try:
        fetch.flush()
    finally:
        client.config_set("maxmemory", 0)
    fetch.flush()
    assert not client.exists(CLAIMS)
    assert waiting.state == "queued"


@pytest.mark.parametrize("status", ["finished", "canceled", None])
def test_an_attempt_that_begins_too_late_marks_nothing_as_started(status, plain, valkey):
    """Its worker stood still, or died with the request on its way: the job has gone on without this claim."""
    _, claim, _ = plain
    client = valkey.client()
    written_by_rq(client, claim, status)
    client.expire(f"rq:job:{claim.job_id}", 500)
    expires = client.expiretime(f"rq:job:{claim.job_id}")
    before = client.hgetall(f"rq:job:{claim.job_id}")
    ended = PlainRunner.run("w1", claim, Interruptible(), lambda claim, seconds: None)
    assert type(ended.outcome) in ((GivenBack,) if status else (GivenBack, Dead))
    assert client.hgetall(f"rq:job:{claim.job_id}") == before
    assert client.expiretime(f"rq:job:{claim.job_id}") == expires
