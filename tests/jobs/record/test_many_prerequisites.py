"""A job that waits for thousands is linked to them in slices; whatever happens in between, it starts once, last."""

import json
from math import inf

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from jobs import control, queues
from jobs.broker.connections import get_connection
from jobs.job import MandateJob
from jobs.record import prerequisites as module
from jobs.worker.release import link, release
from tests.sample.commands.limits import OncePerNumber
from tests.sample.commands.notes import WriteNote

MANY = 600


class DeadError(RedisConnectionError):
    """Raised in place of a client that dies."""


@pytest.fixture
def firsts():
    return WriteNote.defer_many([(str(n),) for n in range(MANY)], queue="low")


@pytest.fixture
def client():
    return get_connection("default")


def end(client, jobs, status="finished"):
    for job in jobs:
        client.hset(job.key, "status", status)
        kinds = ("dependents", "followers") if status == "finished" else ("followers",)
        for kind in kinds:
            release(client, f"jobs:{kind}:{job.id}".encode())


def parents_go_on(client):
    for job_id in client.smembers("jobs:linking"):
        link(client, job_id, inf)


@pytest.fixture
def dies_after(monkeypatch):
    """`dies_after(2)`: the client dies after so many slices of links."""

    def dies_after(slices):
        run, calls = module.run_script, []

        def dying(*args, **options):
            calls.append(1)
            if len(calls) > slices:
                raise DeadError
            return run(*args, **options)

        monkeypatch.setattr(module, "run_script", dying)

    return dies_after


def test_it_starts_when_the_last_of_them_has_finished(firsts, client):
    job = WriteNote.defer("after", prereq_jobs=firsts)
    assert client.scard(f"jobs:waits:{job.id}") == MANY
    assert not client.exists("jobs:linking", "jobs:releasing", f"jobs:unlinked:{job.id}")
    end(client, firsts[1:])
    assert job.state == "waiting"
    end(client, firsts[:1])
    assert job.state == "queued"
    assert client.lrange("rq:queue:default", 0, -1) == [job.id.encode()]


@pytest.mark.parametrize("slices", [0, 1, 5, 6])
@pytest.mark.parametrize("when", ["before", "after", "both"])
def test_a_client_that_dies_between_slices(slices, when, firsts, client, dies_after, monkeypatch):
    """Prerequisites end before the links are complete, and after."""
    dies_after(slices)
    job = WriteNote.defer("after", prereq_jobs=firsts)
    monkeypatch.undo()
    if when != "after":
        end(client, firsts if when == "before" else firsts[::2])
        assert job.state == ("waiting" if slices < 6 or when == "both" else "queued")
    parents_go_on(client)
    if when != "before":
        assert job.state == "waiting"
        end(client, firsts)
    assert job.state == "queued"
    assert client.lrange("rq:queue:default", 0, -1) == [job.id.encode()]
    assert not client.keys("jobs:waits:*") + client.keys("jobs:unlinked:*") + client.keys("jobs:dependents:*")
    assert not client.exists("jobs:linking", "jobs:releasing")


def test_a_client_that_dies_before_the_job_is_written_leaves_nothing(firsts, client, monkeypatch):
    def dying(*args, **options):
        raise DeadError

    monkeypatch.setattr(queues, "run_script", dying)
    with pytest.raises(Exception, match="No answer from Redis"):
        WriteNote.defer("after", prereq_jobs=firsts)
    (key,) = client.keys("jobs:unlinked:*")
    assert 0 < client.ttl(key) <= 3600
    assert not client.exists("jobs:linking", "jobs:releasing", "rq:deferred:default")


def test_prerequisites_that_have_expired_before_the_job_is_written_are_an_error(firsts, client, monkeypatch):
    run = queues.run_script

    def late(*args, **options):
        for key in client.keys("jobs:unlinked:*"):
            client.delete(key)
        return run(*args, **options)

    monkeypatch.setattr(queues, "run_script", late)
    with pytest.raises(Exception, match="have expired"):
        WriteNote.defer("after", prereq_jobs=firsts)
    assert not client.exists("jobs:linking", "jobs:releasing", "rq:deferred:default")
    assert not client.keys("jobs:waits:*")


@pytest.mark.parametrize(("failure", "state"), [("wait", "blocked"), ("run", "queued")])
def test_bad_ends(failure, state, firsts, client):
    end(client, firsts[:300], "failed")
    job = WriteNote.defer("after", prereq_jobs=firsts, prereq_failure=failure)
    end(client, firsts[300:], "failed")
    assert job.state == state


@pytest.mark.parametrize("slices", [2, 6], ids=["linking", "linked"])
@pytest.mark.parametrize("failure", ["wait", "run"])
def test_one_that_was_cancelled_goes_on_waiting(slices, failure, firsts, client, dies_after, monkeypatch):
    dies_after(slices)
    job = WriteNote.defer("after", prereq_jobs=firsts, prereq_failure=failure)
    monkeypatch.undo()
    control.cancel(job)
    assert (job.state, client.exists(f"jobs:waits:{job.id}")) == ("cancelled", 0)
    assert 0 < client.ttl(f"jobs:unlinked:{job.id}") <= 86_400
    end(client, firsts[::2])
    assert job.state == "cancelled"
    control.retry(job)
    parents_go_on(client)
    assert job.state == "waiting"
    assert client.scard(f"jobs:waits:{job.id}") == MANY / 2
    end(client, firsts[1::2], "failed" if failure == "run" else "finished")
    assert job.state == "queued"


@pytest.mark.parametrize("slices", [2, 6], ids=["linking", "linked"])
@pytest.mark.parametrize("change", ["run_now", "delete", "cancel and delete"])
def test_what_a_person_does_meanwhile(change, slices, firsts, client, dies_after, monkeypatch):
    dies_after(slices)
    job = WriteNote.defer("after", prereq_jobs=firsts)
    monkeypatch.undo()
    if change == "run_now":
        control.run_now(job)
    else:
        if change == "cancel and delete":
            control.cancel(job)
        control.delete(job)
    parents_go_on(client)
    end(client, firsts)
    assert client.lrange("rq:queue:default", 0, -1) == ([job.id.encode()] if change == "run_now" else [])
    assert not client.keys("jobs:waits:*") + client.keys("jobs:unlinked:*") + client.keys("jobs:dependents:*")


def test_one_that_rqs_code_deleted_meanwhile(firsts, client, dies_after, monkeypatch):
    dies_after(1)
    job = WriteNote.defer("after", prereq_jobs=firsts)
    monkeypatch.undo()
    client.delete(job.key)
    parents_go_on(client)
    assert not client.exists("jobs:linking", "jobs:releasing", f"jobs:unlinked:{job.id}", f"jobs:waits:{job.id}")


@pytest.fixture
def linking(firsts, dies_after, monkeypatch):
    """A job that is linked to some of its prerequisites, by a client that has died."""
    dies_after(2)
    job = WriteNote.defer("after", prereq_jobs=firsts)
    monkeypatch.undo()
    return job


def test_one_that_the_release_before_cancels_meanwhile_waits_for_all_of_them_after_a_retry(linking, firsts, client):
    """That release knows `jobs:waits` alone, and keeps its members in the record."""
    waits = [each.decode() for each in client.smembers(f"jobs:waits:{linking.id}")]
    client.delete(f"jobs:waits:{linking.id}")
    client.zrem("rq:deferred:default", linking.id)
    client.zadd("rq:canceled:default", {linking.id: 9e9})
    lacked = json.dumps({"waits": waits, "any": False})
    client.hset(linking.key, mapping={"status": "canceled", "lacked": lacked})
    parents_go_on(client)
    assert not client.exists("jobs:linking", f"jobs:waits:{linking.id}")
    assert 0 < client.ttl(f"jobs:unlinked:{linking.id}") <= 86_400
    control.retry(linking)
    parents_go_on(client)
    assert client.smembers(f"jobs:waits:{linking.id}") == {first.id.encode() for first in firsts}
    end(client, firsts)
    assert linking.state == "queued"


def test_one_that_the_release_before_runs_at_once_meanwhile_waits_for_none(linking, client):
    client.delete(f"jobs:waits:{linking.id}")
    client.zrem("rq:deferred:default", linking.id)
    client.rpush("rq:queue:default", linking.id)
    client.hset(linking.key, "status", "queued")
    parents_go_on(client)
    assert linking.state == "queued"
    assert not client.exists("jobs:linking", f"jobs:waits:{linking.id}", f"jobs:unlinked:{linking.id}")


@pytest.mark.parametrize("gone", [control.cancel, control.delete])
def test_prerequisites_that_go_before_they_are_linked_are_waited_for(gone, linking, firsts, client):
    (unlinked,) = client.srandmember(f"jobs:unlinked:{linking.id}", 1)
    (last,) = [first for first in firsts if first.id.encode() == unlinked]
    gone(last)
    end(client, [first for first in firsts if first is not last])
    parents_go_on(client)
    assert client.smembers(f"jobs:waits:{linking.id}") == {unlinked}
    assert linking.state == "blocked"


@pytest.mark.parametrize(("failure", "state"), [("wait", "blocked"), ("run", "queued")])
def test_prerequisites_whose_keys_are_no_hashes_never_finish(failure, state, firsts, client):
    for first in firsts[::200]:
        client.delete(first.key)
        client.set(first.key, "text")
    job = WriteNote.defer("after", prereq_jobs=firsts, prereq_failure=failure)
    end(client, [first for first in firsts if first not in firsts[::200]])
    assert job.state == state


def test_clients_and_parents_that_link_one_at_once_start_it_once(linking, firsts, client):
    for _ in range(2):
        link(client, linking.id, 0.0)
    end(client, firsts)
    for _ in range(3):
        link(client, linking.id, inf)
    assert client.lrange("rq:queue:default", 0, -1) == [linking.id.encode()]


def test_a_late_link_of_one_that_was_cancelled_changes_nothing(firsts, client):
    job = WriteNote.defer("after", prereq_jobs=firsts)
    control.cancel(job)
    link(client, job.id, inf)
    assert client.scard(f"jobs:unlinked:{job.id}") == MANY
    assert 0 < client.ttl(f"jobs:unlinked:{job.id}") <= 86_400
    assert not client.exists(f"jobs:waits:{job.id}")


def test_a_duplicate_leaves_none(firsts, client):
    first = OncePerNumber.defer(1)
    assert OncePerNumber.defer(1, prereq_jobs=firsts).id == first.id
    assert not client.keys("jobs:unlinked:*")


def test_one_with_a_due_time_waits_for_that_too(firsts, client):
    job = WriteNote.defer("after", prereq_jobs=firsts, wait=600)
    end(client, firsts)
    assert job.state == "scheduled"


def test_all_are_done_before(firsts, client):
    end(client, firsts)
    job = WriteNote.defer("after", prereq_jobs=firsts)
    assert job.state == "queued"
    assert isinstance(job, MandateJob)
