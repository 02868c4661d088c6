"""Stopping one running job: only the given execution, and as soon as it can be interrupted."""

import json
import socket

import pytest

from jobs import control
from jobs.attempts.interrupt import Stopped
from jobs.broker.connections import get_connection
from jobs.worker.child import Child
from jobs.worker.process import Process
from jobs.worker.scoreboard import Board
from jobs.worker.settings import WorkerSettings
from tests.sample.commands.notes import WriteNote
from tests.sample.commands.trouble import Trouble

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def child(valkey):
    """A child without a process: it minds and obeys when the test calls it. `say` sends a line as its parent."""
    ours, theirs = socket.socketpair()
    child = Child(WorkerSettings(queues={"default": None}, concurrency=1), "w1", Board(1), theirs, blocks=True)
    child.thread = child._threads[0]
    process = Process("w1", 0, Board(1))
    process.control = ours
    get_connection("default").zadd("jobs:workers", {"w1": 9e9})

    def say(*words):
        process.send(*words)
        child._obey()

    def claim():
        child._fetch._step(claims=True)
        child.thread.claim = child._fetch._ready.popleft()
        child.thread.claim.deadline = float("inf")
        return child.thread.claim

    child.say, child.begin = say, claim
    with ours, theirs:
        yield child
    child._fetch._wire.close()


def is_interrupted(child):
    """Whether minding interrupts the thread, here the test's own, once it is in `call`."""

    def call():
        for _ in range(3):
            child._mind()

    try:
        child.thread.interruptible.run(child.thread.claim, call)
    except Stopped:
        return True
    return False


def test_a_job_whose_arguments_are_still_loading_is_stopped_when_its_call_begins(child):
    job = WriteNote.defer("x")
    claim = child.begin()
    child.say("stop", job.id, claim.execution.decode())
    child._mind()
    assert is_interrupted(child)


def test_rqs_own_command_names_no_execution_and_stops_whichever_runs(child):
    job = WriteNote.defer("x")
    child.begin()
    child.say("stop", job.id, "")
    assert is_interrupted(child)


def test_a_job_retried_meanwhile_is_not_stopped(child):
    job = WriteNote.defer("x")
    first = child.begin()
    heard = job.connection.pubsub(ignore_subscribe_messages=True)
    heard.subscribe("rq:pubsub:w1")
    heard.get_message(timeout=20)
    job.cancel()
    control.retry(job)
    child._fetch.held.pop(first.execution)  # its late result has been refused
    child.begin()
    message = json.loads(heard.get_message(timeout=20)["data"])
    heard.close()

    assert message["execution_id"] == first.execution.decode()
    child.say("stop", message["job_id"], message["execution_id"])
    assert not is_interrupted(child)


def test_a_stop_is_forgotten_with_its_execution(child):
    job = WriteNote.defer("x")
    claim = child.begin()
    child.say("stop", job.id, "")
    child._fetch.held.pop(claim.execution)
    child._mind()
    assert child._interruptions._to_stop == {}


@pytest.mark.parametrize(("cancelled", "heard"), [(True, []), (False, [("dead", "")])])
def test_handlers_of_dead_jobs_are_not_called_for_cancelled_ones(cancelled, heard, worker, monkeypatch, caplog):
    Trouble.told.clear()

    def call(command):
        if cancelled:
            control.cancel(command.job)
        raise Stopped

    monkeypatch.setattr(Trouble, "call", call)
    job = Trouble.defer()
    worker.step()

    assert job.state == ("cancelled" if cancelled else "dead")
    assert Trouble.told == heard
    assert ("dead:" in caplog.text) == (not cancelled)
