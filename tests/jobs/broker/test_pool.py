"""The pool: it never lends more connections than its bound, one that was lost, or one on which an answer waits."""

import hashlib
import os
import threading
import time

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError

from jobs.broker import connections, pool
from jobs.broker.connections import Script, get_connection, run_script
from jobs.errors import RedisUnavailableError
from tests.sample.commands.notes import WriteNote

ECHO = Script.__new__(Script)
ECHO.text = "return ARGV[1]"
ECHO.sha = hashlib.sha1(ECHO.text.encode(), usedforsecurity=False).hexdigest()


@pytest.fixture
def most(settings, monkeypatch):
    """`most(3)`: a new pool of that size."""

    def new(count):
        monkeypatch.setattr(connections, "_by_queue", {})
        monkeypatch.setattr(connections, "_by_server", {})
        settings.JOBS = settings.JOBS | {"CONNECTIONS": count}
        return get_connection("default").connection_pool

    return new


def echo(word):
    return run_script(get_connection("default"), ECHO, [], [word])


def idle(of_pool):
    return list(of_pool._available_connections)


def test_many_threads_share_few_connections_and_each_gets_its_own_answer(valkey, most, monkeypatch):
    monkeypatch.setattr(pool, "WAIT_FOR_CONNECTION", 60)  # the machine may be busy
    shared = most(4)
    gate, wrong = threading.Barrier(150), []

    def call(number):
        gate.wait()
        for turn in range(5):
            word = f"{number}-{turn}".encode()
            if echo(word) != word:
                wrong.append(word)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(150)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert 1 <= len(idle(shared)) <= 4
    assert not shared._in_use_connections


def test_pages_and_scripts_share_one_bound(valkey, most, monkeypatch):
    monkeypatch.setattr(pool, "WAIT_FOR_CONNECTION", 0.05)
    shared = most(1)
    held = shared.get_connection()

    with pytest.raises(RedisUnavailableError, match=r"^All 1 connections of this process to .* raise JOBS\['CONN"):
        WriteNote.defer("x")
    with pytest.raises(RedisConnectionError, match=r"^No connection available\.$"):
        get_connection("default").ping()
    shared.release(held)
    assert get_connection("default").ping()
    assert idle(shared) == [held]


def test_a_thread_that_waits_gets_the_connection_that_is_given_back(valkey, most):
    shared = most(1)
    held, got = shared.get_connection(), []
    waiting = threading.Thread(target=lambda: got.append(shared.get_connection()))
    waiting.start()
    while not shared._returned._waiters:
        time.sleep(0.001)
    shared.release(held)
    waiting.join()

    assert got == [held]


def test_a_connection_is_taken_back_once(valkey, most):
    shared = most(2)
    held = shared.get_connection()
    shared.release(held)
    shared.release(held)

    assert idle(shared) == [held]
    assert shared.get_connection() is not shared.get_connection()


def test_a_connection_that_the_server_has_closed_is_replaced_before_it_is_used(valkey, most):
    shared = most(2)
    assert echo(b"1") == b"1"
    (lost,) = idle(shared)
    former = lost._sock
    valkey.client().client_kill_filter(_type="normal", skipme=True)

    assert echo(b"2") == b"2"  # not repeatable: it is not sent twice
    assert idle(shared) == [lost]
    assert lost._sock is not former


@pytest.mark.parametrize("at", ["sent", "half read"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_answer_that_nobody_has_read_is_never_anothers(at, error, valkey, most, monkeypatch):
    shared = most(1)
    echo(b"first")
    (connection,) = idle(shared)
    read = type(connection).read_response

    def interrupted(self, *args, **options):
        monkeypatch.setattr(type(connection), "read_response", read)
        if at == "half read":
            read(self, *args, **options)
            self.send_command("ECHO", "unread")
        raise error

    monkeypatch.setattr(type(connection), "read_response", interrupted)
    with pytest.raises(error):
        echo(b"interrupted")

    assert not connection.is_connected
    assert echo(b"next") == b"next"
    assert not shared._in_use_connections


def test_an_answer_that_waits_on_an_idle_connection_is_not_taken_for_the_next_ones(valkey, most):
    shared = most(1)
    held = shared.get_connection()
    held.send_command("ECHO", "unread")
    while not held.can_read(timeout=1):
        pass
    shared.release(held)

    assert echo(b"mine") == b"mine"


def test_a_connection_that_cannot_be_opened_leaves_its_place(valkey, most, monkeypatch):
    shared = most(1)
    monkeypatch.setitem(shared.connection_kwargs, "path", "/nowhere")
    for _ in range(3):
        with pytest.raises(RedisConnectionError, match="No such file|nowhere"):
            shared.get_connection()

    assert not shared._in_use_connections


def test_a_server_that_has_become_a_replica_is_left(valkey, most):
    shared = most(1)
    client, admin = get_connection("default"), valkey.client()
    admin.replicaof("127.0.0.1", 1)
    try:
        with pytest.raises(ReadOnlyError):
            client.set("x", 1)
        assert not idle(shared)[0].is_connected
    finally:
        admin.replicaof("NO", "ONE")
    assert client.set("x", 1)


def test_a_forked_process_opens_connections_of_its_own(valkey, most):
    shared = most(2)
    held = shared.get_connection()  # by a thread that the child does not have
    echo(b"parent")
    (parents,) = idle(shared)
    shared._lock.acquire()  # as another thread may hold it
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            shared.release(held)
            mine = shared.get_connection()
            is_own = mine not in (held, parents) and mine.pid == os.getpid()
            shared.release(mine)
            said = echo(b"child") == b"child" and is_own and idle(shared) == [mine]
            os.write(writing, b"own" if said else b"shared")
        finally:
            os._exit(0)
    shared._lock.release()
    os.waitpid(child, 0)
    os.close(writing)

    assert os.read(reading, 10) == b"own"
    os.close(reading)
    assert idle(shared) == [parents]
    assert echo(b"parent again") == b"parent again"  # over the socket that the child has not shut down
    assert idle(shared) == [parents]
    shared.release(held)
