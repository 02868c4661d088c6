"""The thread that listens for a process: whose answer is whose, and what it lives through."""

import os
import resource
import threading
from collections import defaultdict

import pytest
from django.db import transaction
from redis.exceptions import ConnectionError as RedisConnectionError

from jobs import control
from jobs.broker import keys
from jobs.broker.connections import get_connection
from jobs.waits import listener
from jobs.waits.listener import Waiter
from tests.jobs.worker import eventually
from tests.sample.commands.notes import Fail
from tests.sample.commands.talk import Echo

pytestmark = pytest.mark.django_db(transaction=True)

MANY = 1_100  # files, more than `select` takes


@pytest.fixture(autouse=True)
def _no_listener():
    listener._listeners.clear()
    yield
    listener._listeners.clear()


@pytest.fixture
def begin():
    """`begin(job)`: a wait for it, until the end of the test."""
    begun = []

    def begin(job):
        waiter = Waiter(job)
        begun.append((listener.begin(waiter), waiter))
        return waiter

    yield begin
    for server, waiter in begun:
        server.drop(waiter)


@pytest.fixture
def first_look(monkeypatch):
    """The first look has its answer once `read` is set, and goes on with it once `go_on` is set."""
    run_many, looks = listener.run_many, []

    class First:
        read, go_on = threading.Event(), threading.Event()

    def stop_after_the_first(client, script, calls):
        answers = run_many(client, script, calls)
        looks.append(calls)
        if len(looks) == 1:
            First.read.set()
            assert First.go_on.wait(10)
        return answers

    monkeypatch.setattr(listener, "run_many", stop_after_the_first)
    yield First
    First.go_on.set()


def test_a_wait_that_begins_after_a_commit_does_not_hear_the_answer_from_before_it(begin, first_look):
    with transaction.atomic():
        job = Echo.defer(1)
        begin(job)
        assert first_look.read.wait(10)
    late = begin(job)
    first_look.go_on.set()
    eventually(lambda: late.has_begun)

    assert not late.future.done()


def test_a_wait_that_begins_after_a_retry_does_not_hear_of_the_end_before_it(worker, begin, first_look):
    job = Fail.defer()
    worker.run()
    early = begin(job)
    assert first_look.read.wait(10)
    control.retry(job)
    late = begin(job)
    first_look.go_on.set()
    eventually(lambda: late.has_begun)

    assert early.future.done()
    assert not late.future.done()


def test_a_process_with_many_files_goes_on_waiting_after_a_lost_connection(worker, begin):
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4_096, most), most))
    files = [os.dup(0)]
    try:
        while files[-1] < MANY:
            files.append(os.dup(0))
        waiter = begin(job := Echo.defer(1))
        client = get_connection("default")
        eventually(lambda: client.scard(keys.waiters(job.id)))
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        worker.run()
        assert waiter.future.result(20).is_over
    finally:
        for file in files:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


def test_a_wait_that_begins_as_the_connection_is_lost_is_not_refused(worker, begin, monkeypatch):
    first = begin(Echo.defer(1))
    eventually(lambda: first.has_begun)
    woken, cuts = listener.Listener._woken, [RedisConnectionError("Connection reset by peer")]

    def lose_once(self):
        if cuts:
            raise cuts.pop()
        return woken(self)

    monkeypatch.setattr(listener.Listener, "_woken", lose_once)
    second = begin(Echo.defer(2))
    eventually(lambda: not cuts)
    worker.run()

    assert first.future.result(20).is_over and second.future.result(20).is_over


def test_waits_go_on_after_one_for_which_no_thread_could_be_started(worker, begin, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(listener.Listener, "start", refuse)
        with pytest.raises(RuntimeError):
            begin(Echo.defer(1))
    waiter = begin(Echo.defer(2))
    worker.run()

    assert waiter.future.result(20).is_over


def test_a_process_that_stood_still_hears_the_answer_to_its_last_question_before_it_asks_again(begin, monkeypatch):
    monkeypatch.setattr(listener, "LOOK_EVERY", 0.0)  # so long did it stand still
    ping, look, asked = listener.Listener._ping, listener.Listener._look, defaultdict(list)

    def note(self):
        ping(self)
        asked[self].append(self._connection)

    def stand_still(self, ids):
        look(self, ids)
        if len(asked[self]) == 1:
            eventually(lambda: self._connection.can_read(timeout=0))

    monkeypatch.setattr(listener.Listener, "_ping", note)
    monkeypatch.setattr(listener.Listener, "_look", stand_still)
    job = Echo.defer(1)
    begin(job)
    connections = asked[listener._listeners[job.connection]]
    eventually(lambda: len(connections) > 1)

    assert connections[0] is connections[1]  # no new connection, for which new waits would be refused
