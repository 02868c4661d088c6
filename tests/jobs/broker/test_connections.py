"""A client's connections: bounded and waited for, closed when they lead to a replica, replaced when they were lost."""

import threading
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError

from jobs import conf, queues
from jobs.broker import connections, pool
from jobs.broker.connections import get_connection
from jobs.errors import RedisUnavailableError
from jobs.worker.connection import Wire
from tests.jobs.worker.servers import Server
from tests.sample.commands.notes import WriteNote

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def fresh_clients(monkeypatch):
    """Clients are made anew, and those of this test are not kept."""
    monkeypatch.setattr(connections, "_by_queue", {})
    monkeypatch.setattr(connections, "_by_server", {})


@pytest.fixture
def failover(tmp_path, settings, fresh_clients):
    """
    A server behind a name. `failover()`: the name leads to another server, of which the first becomes a replica; the
    first keeps its connections.
    """
    first = Server(tmp_path / "first", f"unixsocket {tmp_path}/first.sock")
    second = Server(tmp_path / "second", f"unixsocket {tmp_path}/second.sock")
    name = tmp_path / "redis.sock"
    name.symlink_to(tmp_path / "first.sock")
    settings.RQ_QUEUES = {
        queue: {"URL": f"unix://{name}", "SERIALIZER": "rq.serializers.JSONSerializer"} for queue in settings.RQ_QUEUES
    }

    def fail_over():
        with first.client() as client:
            client.replicaof("127.0.0.1", second.port)
        name.unlink()
        Path(name).symlink_to(tmp_path / "second.sock")

    with first, second:
        yield fail_over


def test_a_web_process_follows_a_failover_behind_a_name(failover):
    WriteNote.defer("before")
    failover()

    job = WriteNote.defer("after")

    assert job.state == "queued"
    assert get_connection("default").llen("rq:queue:default") == 1


def test_other_calls_of_the_client_fail_once_and_then_follow(failover):
    client = get_connection("default")
    client.set("x", 1)
    failover()

    with pytest.raises(ReadOnlyError):
        client.set("x", 2)
    assert client.set("x", 3)


def test_a_workers_connection_is_closed_when_it_leads_to_a_replica(failover):
    wire = Wire("default")
    wire.call("SET", "x", 1)
    failover()

    with pytest.raises(ReadOnlyError):
        wire.call("SET", "x", 2)
    assert wire.call("SET", "x", 3) == b"OK"
    wire.close()


@pytest.mark.parametrize("ran", [False, True], ids=["before the script ran", "after it ran"])
def test_a_push_whose_connection_was_lost_is_sent_again_once(ran, valkey, monkeypatch):
    ask, lost = connections._ask, []

    def lose_one(connection, *words):
        if not lost:
            lost.append(words)
            if ran:
                ask(connection, *words)
            connection.disconnect()
            raise RedisConnectionError("Connection reset by peer")
        return ask(connection, *words)

    WriteNote.defer("loads the script")
    monkeypatch.setattr(connections, "_ask", lose_one)
    job = WriteNote.defer("x")

    assert (job.is_written, job.state) == (True, "queued")
    assert get_connection("default").lrange("rq:queue:default", 0, -1).count(job.id.encode()) == 1


def test_a_connection_that_is_lost_twice_is_an_error(valkey, monkeypatch):
    def lose(connection, *words):
        raise RedisConnectionError("Connection reset by peer")

    monkeypatch.setattr(connections, "_ask", lose)
    with pytest.raises(RedisUnavailableError, match="Connection reset by peer"):
        WriteNote.defer("x")


def test_more_threads_than_connections_wait_for_one(valkey, settings, fresh_clients, monkeypatch):
    monkeypatch.setattr(pool, "WAIT_FOR_CONNECTION", 60)  # the machine may be busy
    settings.JOBS = settings.JOBS | {"CONNECTIONS": 2}
    gate, errors = threading.Barrier(40), []

    def defer(number):
        gate.wait()
        try:
            queues.push([queues.NewJob(f"job-{number}", "default", b'["x", null, [], {}]')])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=defer, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert get_connection("default").llen("rq:queue:default") == 40
    assert len(get_connection("default").connection_pool._available_connections) == 2


def test_a_thread_that_waits_in_vain_is_told_of_the_setting(valkey, settings, fresh_clients):
    settings.JOBS = settings.JOBS | {"CONNECTIONS": 1}
    client = get_connection("default")
    held = client.connection_pool.get_connection()

    waits, wait = [], client.connection_pool._wait
    client.connection_pool._wait = lambda: (waits.append("a wait"), wait())
    with pytest.raises(RedisUnavailableError, match=r"All 1 connections .* raise JOBS\['CONNECTIONS'\]"):
        WriteNote.defer("x")
    with pytest.raises(RedisUnavailableError, match="All 1 connections"):
        WriteNote.defer_many([("x",)] * 1_000)
    assert len(waits) == 2  # each caller waited once
    client.connection_pool.release(held)
    assert WriteNote.defer("x").state == "queued"


@pytest.mark.parametrize("value", [0, -1, "10", None, 2.5, True])
def test_a_bad_number_of_connections_is_refused_naming_it(value, settings):
    settings.JOBS = settings.JOBS | {"CONNECTIONS": value}

    with pytest.raises(ImproperlyConfigured, match="JOBS\\['CONNECTIONS'\\]"):
        conf.connections()


def sizes(monkeypatch):
    found, settle = [], queues._settle

    def note(pairs, *answer):
        found.append(len(pairs))
        return settle(pairs, *answer)

    monkeypatch.setattr(queues, "_settle", note)
    return found


def test_slices_of_a_bulk_are_bounded_by_their_bytes(valkey, monkeypatch):
    written = sizes(monkeypatch)
    WriteNote.defer_many([("x" * 100_000,) for _ in range(5)] + [("y" * 600_000,), ("z",), ("z",)])

    assert written == [2, 2, 1, 1, 2]


def test_slices_of_a_bulk_are_bounded_by_their_prerequisites(valkey, monkeypatch):
    firsts = WriteNote.defer_many([("x",) for _ in range(40)])
    written = sizes(monkeypatch)
    waiting = WriteNote.defer_many([(str(number),) for number in range(9)], prereq_jobs=firsts)

    assert written == [2, 2, 2, 2, 1]
    assert {job.state for job in waiting} == {"waiting"}
