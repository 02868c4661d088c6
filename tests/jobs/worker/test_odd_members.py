"""Members of the sets that a parent works off, and remote commands, that neither jobs nor RQ write."""

import logging
import os
import time

import orjson
import pytest

from jobs.broker import keys
from jobs.broker.connections import get_connection
from jobs.worker.connection import Wire
from jobs.worker.doorbell import Doorbell
from jobs.worker.process import Process
from jobs.worker.release import release_the_left
from jobs.worker.remote_commands import Remote
from jobs.worker.scoreboard import Board
from tests.jobs.worker import eventually

ODD = [
    b"",
    b":",
    b"a:b:c",
    b"rq:",
    b"rq::",
    b"rq:low",
    b"rq:low:x:y",
    b"rq:job:x",
    b"\xff\xfe",
    b"rq:low:\xff",
    b"line\nbreak",
]
ODD += [b"x" * 1_000_000, b"jobs:dependents:", b"rq:queue:low", "rq:\ud800".encode(errors="surrogatepass")]


@pytest.mark.django_db(databases=["default", "other"])
@pytest.mark.parametrize("key", [keys.RELEASING, keys.LINKING])
def test_odd_members_leave_the_set_and_are_logged_once(key, valkey, caplog):
    client, wire = get_connection("default"), Wire("default")
    client.rpush("rq:queue:low", "somebody's")
    client.sadd(key, *ODD)
    for _ in range(5):
        release_the_left(wire, client, time.monotonic() + 100)
    wire.close()

    assert client.smembers(key) == set()
    assert len([each for each in caplog.records if each.levelno >= logging.WARNING]) <= len(ODD)


MESSAGES = [
    *ODD,
    b"[" * 100_000,
    b"null",
    b"[]",
    b"1",
    b'{"command":[]}',
    b'{"command":{}}',
    b'{"command":null}',
    b"{}",
]
MESSAGES += [
    orjson.dumps({"command": "stop-job", **words}) for words in ({}, {"job_id": None}, {"job_id": ["x"]}, {"job_id": 1})
]
MESSAGES += [orjson.dumps({"command": "stop-job", "job_id": odd}) for odd in ("", "a\nb", "x" * 1_000_000, "\x00", "é")]
MESSAGES += [
    orjson.dumps({"command": "stop-execution", "job_id": "x", "execution_id": odd}) for odd in (None, 1, [], "\n")
]
MESSAGES += [orjson.dumps({"command": odd}) for odd in ("x" * 1_000_000, "a\nb", "\x1b[2J", "kill-horse")]


@pytest.mark.parametrize("message", MESSAGES, ids=range(len(MESSAGES)))
def test_an_odd_remote_command_stops_nothing(message, valkey, caplog):
    remote, process, client = Remote("default"), Process("w1", 0, Board(1)), get_connection("default")
    process.pid = os.getpid()
    remote.listen("w1")
    client.publish(keys.channel("w1"), message)
    client.publish(keys.channel("w1"), b'{"command":"shutdown"}')

    assert eventually(lambda: remote.obey([process]))
    remote._channels.close()
    remote._client.close()
    assert all("\n" not in each.getMessage() and "\x1b" not in each.getMessage() for each in caplog.records)
    assert all(len(each.getMessage()) < 1_000 for each in caplog.records)


def test_remote_commands_are_heard_after_a_lost_connection(valkey):
    """The server closes it, as at its restart; redis-py connects anew only after it has noticed."""
    remote, process, client = Remote("default"), Process("w1", 0, Board(1)), get_connection("default")
    process.pid = os.getpid()
    remote.listen("w1")
    client.client_kill_filter(_type="pubsub")

    assert not remote.obey([process])
    eventually(lambda: client.publish(keys.channel("w1"), b'{"command":"shutdown"}'))
    assert eventually(lambda: remote.obey([process]))
    remote._channels.close()
    remote._client.close()


def test_a_queue_whose_key_is_no_list_keeps_no_other_queue_waiting(valkey):
    client = get_connection("default")
    client.set(keys.queue("low"), "somebody's")
    doorbell = Doorbell({name: keys.queue(name) for name in ("low", "default")}, blocks=True)
    doorbell.wait(["low", "default"], 20)  # the answer for the one that is no list
    client.rpush(keys.queue("default"), "x")
    doorbell.wait(["low", "default"], 20)

    assert (list(doorbell._no_list), doorbell._asked) == (["low"], {})  # the other one was answered
    doorbell.close()


def test_it_is_waited_for_again_once_it_is_a_list(valkey):
    client = get_connection("default")
    client.set(keys.queue("low"), "somebody's")
    doorbell = Doorbell({"low": keys.queue("low")}, blocks=True)
    doorbell.wait(["low"], 20)
    client.delete(keys.queue("low"))
    client.rpush(keys.queue("low"), "x")
    doorbell._no_list = dict.fromkeys(doorbell._no_list, 0.0)  # PATIENCE has passed
    doorbell.wait(["low"], 20)

    assert doorbell._no_list == doorbell._asked == {}
    doorbell.close()
