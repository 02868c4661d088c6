"""Names and ids are parts of keys and messages: what enters is checked, what comes from Redis is only data."""

import logging
import os
import threading
import time

import pytest
from django.core.management import CommandError, call_command
from redis import Redis

from jobs.attempts.claim import Claim
from jobs.broker import names
from jobs.broker.connections import get_connection
from jobs.worker import heartbeat
from jobs.worker.connection import Wire
from jobs.worker.parent import Parent
from jobs.worker.process import Process
from jobs.worker.recovery import recover
from jobs.worker.remote_commands import Remote
from jobs.worker.scoreboard import Board
from jobs.worker.settings import WorkerSettings
from tests.jobs.worker import eventually
from tests.sample.commands.notes import WriteNote

ODD = ["web:1", "RQ worker 4", "eu/1", "a\nb", "ü", "x" * 101, "a b"]


@pytest.mark.parametrize("name", ODD)
def test_a_worker_with_a_name_that_is_no_name_does_not_start(name):
    with pytest.raises(CommandError) as refused:
        call_command("rqworker", "default", name=name, burst=True)

    assert repr(name) in str(refused.value)
    assert "letters, digits" in str(refused.value)


@pytest.mark.parametrize("text", [*ODD, ""])
def test_of_any_hosts_name_a_name_can_be_made(text):
    assert names.check_worker(names.as_worker(text))


@pytest.mark.parametrize("worker", ["web:1", "a:b:c", "RQ worker 4", "eu/1", "w" * 300])
def test_workers_of_the_release_before_keep_their_claims_whatever_they_are_called(worker, new_fetch):
    WriteNote.defer("x")
    new_fetch(worker)._step(claims=True)

    assert recover(Wire("default"), "default") == ([], [])
    get_connection("default").zadd("jobs:workers", {worker: 1})
    ((_, held_by),) = recover(Wire("default"), "default").given_back
    assert held_by == worker


@pytest.mark.parametrize("job_id", ["import-" + "a" * 240, "a" * 70_000, "a b c", "a\nb", "", "é" * 200])
@pytest.mark.parametrize("queue", ["default", "two words"])
def test_the_parent_sees_what_runs_whatever_it_is_called(job_id, queue):
    board = Board(2)
    board.start(1, 1.0, 2.0, job_id.encode(), b"RQ worker 4.17", queue.encode())

    (running,) = board.running()
    assert (running.started, running.deadline, running.execution, running.queue) == (1.0, 2.0, "RQ worker 4.17", queue)
    assert job_id.startswith(running.job_id[:100])
    assert board.begun() == 17


def test_of_workers_that_take_one_name_at_once_each_has_its_own(valkey):
    taken, start = [], threading.Barrier(8)

    def one():
        wire = Wire("default")
        wire.call("PING")
        start.wait()
        taken.append(heartbeat.take_name(wire, "mailer"))

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(taken)) == 8
    assert [name for name in taken if name == "mailer"] == ["mailer"]
    assert all(name.startswith("mailer") for name in taken)
    assert get_connection("default").zcard("jobs:workers") == 8


def parent():
    return Parent(WorkerSettings(queues={"default": None}, concurrency=1, processes=1))


def test_a_name_that_a_worker_of_another_database_hears_is_taken(valkey):
    """Pub/sub knows no databases: a shutdown there would stop the worker here."""
    client = get_connection("default")
    elsewhere = Redis.from_url(os.environ["REDIS_URL"], db=9).pubsub()
    elsewhere.subscribe("rq:pubsub:shared")
    eventually(lambda: client.pubsub_numsub("rq:pubsub:shared")[0][1] == 1)
    process = Process("shared", 0, Board(1))
    parent()._register(process)

    assert process.name.startswith("shared.")
    assert [name.decode() for name in client.zrange("jobs:workers", 0, -1)] == [process.name]
    eventually(lambda: client.pubsub_numsub("rq:pubsub:shared")[0][1] == 1)
    elsewhere.close()


@pytest.mark.parametrize(
    "message",
    [
        b"[" * 100_000,
        b"\xff",
        b'{"command": "stop-job", "job_id": 7}',
        b'{"command": "stop-job"}',
        b'{"command": "stop-job", "job_id": "' + b"x" * 100_000 + b'"}',
        b'{"command": ["shutdown"]}',
        b"7",
    ],
    ids=["deep", "no UTF-8", "an id that is no text", "no id", "a long id", "no command's name", "no object"],
)
def test_a_remote_command_that_means_nothing_is_logged_and_the_next_is_obeyed(message, caplog):
    remote, process = Remote("default"), Process("ours", 0, Board(1))
    said = []
    process.control = type("Control", (), {"send": lambda self, data, flags: said.append(data)})()
    remote.listen("ours")
    client = get_connection("default")
    with caplog.at_level(logging.WARNING):
        client.publish("rq:pubsub:ours", message)
        client.publish("rq:pubsub:ours", b'{"command": "stop-job", "job_id": "a\\nb c"}')
        eventually(lambda: remote.obey([process]) or said)

    assert said == [b'["stop", "a\\nb c", ""]\n']
    assert "remote command" in caplog.text
    assert len(caplog.text) < 2_000


@pytest.mark.parametrize("key", ["rq:queues", "jobs:paused", "jobs:releasing"])
def test_a_member_that_is_no_utf_8_keeps_the_parent_from_nothing(key, valkey):
    client, ours = get_connection("default"), parent()
    client.sadd(key, b"rq:queue:\xff" if key == "rq:queues" else b"jobs:\xff")
    process = Process("ours", 0, Board(1))
    process.pid = 1
    assert ours._register(process)
    ours._children._alive.append(process)
    for duty in (*ours._often, ours._beat, ours._recover):
        assert ours._duties.one(duty), duty

    assert not client.smembers("jobs:releasing")  # where nothing is to be released, the member goes


@pytest.mark.django_db
def test_a_job_whose_id_is_no_utf_8_runs(worker, valkey):
    client = get_connection("default")
    record = {"status": "queued", "origin": "default", "created_at": "2026-01-01T00:00:00Z"}
    record["data"] = '["jobs.execution.perform", null, ["sample.WriteNote", "x"], {}]'
    client.hset(b"rq:job:\xff", mapping=record)
    client.rpush("rq:queue:default", b"\xff")
    worker.run()

    assert client.hget(b"rq:job:\xff", "status") == b"finished"
    assert client.zrange("rq:finished:default", 0, -1) == [b"\xff"]


@pytest.mark.django_db(transaction=True)
def test_names_that_there_are_not_are_counted_under_one(worker, valkey):
    client = get_connection("default")
    for number in range(5):
        job = WriteNote.defer("x")
        client.hset(job.key, "data", f'["jobs.execution.perform", null, ["nowhere.Command{number}"], {{}}]')
    WriteNote.defer("x")
    worker.run()
    labels = [label for key in client.scan_iter("jobs:counts:*") for label in client.hgetall(key)]  # a key a minute

    assert {label.split(b"|")[1] for label in labels} == {b"(unknown)", b"sample.WriteNote"}


def test_a_claim_reads_its_names_as_far_as_they_are_texts():
    claim = Claim([b"\xff", b"default", b"web:1.\xfe.3", b"", b""])

    assert (claim.job_id, claim.worker) == ("\\xff", "web:1.\\xfe")
    assert time.monotonic() > claim.started
