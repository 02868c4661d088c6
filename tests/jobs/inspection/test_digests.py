"""The digests of hours: what is usual, by command and by queue."""

import time

import pytest

from jobs.broker.connections import get_connection
from jobs.broker.times import DAY, HOUR, MINUTE
from jobs.inspection import attempt_counts, digests
from jobs.inspection.digests import Digest

HOURS_AGO = 3
pytestmark = pytest.mark.usefixtures("one_minute")  # nor does an hour end


def hour(ago=HOURS_AGO):
    return int(time.time()) // HOUR - ago


def fill(ago=HOURS_AGO, label="low|a.B|finished|20", number=10, latency=""):
    client, minute = get_connection("default"), hour(ago) * HOUR // MINUTE
    client.hincrby(f"jobs:counts:{minute + 1}", label, number)
    if latency:
        client.hset(f"jobs:samples:{minute + 2}", "low", f"7 {latency}")


def write_all():
    attempt_counts.roll_up()
    while digests.write_missing(get_connection("default")):
        pass


def test_an_hour_is_digested_by_command_and_by_queue(valkey):
    fill(latency="41.5")
    fill(label="low|a.B|retried|20", number=3)
    fill(label="default|a.B|dead|10", number=2)
    fill(label="low|a.C|finished|10", number=1)
    write_all()
    found = digests.read([hour()])[hour()]

    assert found.commands["a.B"] == Digest(15, 5, 2, 2**20 / 1e6, 2**20 / 1e6, found.commands["a.B"].seconds)
    assert (found.queues["low"].attempts, found.queues["low"].wait) == (14, 41.5)
    assert found.queues["default"].dead == 2
    assert digests.series("command", "a.C", [hour(), hour(1)])[0][1].attempts == 1
    assert digests.series("command", "a.C", [hour(), hour(1)])[1][1] == Digest()


def test_every_hour_that_has_a_sum_is_digested_once(valkey):
    fill()
    write_all()
    keys = get_connection("default").keys("jobs:digest:*")
    assert len(keys) == attempt_counts.COUNTS_KEPT // HOUR
    assert 14 * DAY < get_connection("default").ttl(f"jobs:digest:{hour()}") <= 15 * DAY
    get_connection("default").delete(f"jobs:digest:{hour(5)}")
    assert digests.write_missing(get_connection("default"))
    assert not digests.write_missing(get_connection("default"))


def test_the_minutes_of_a_summed_hour_go_soon_and_the_others_stay(valkey):
    client = get_connection("default")
    fill(1)
    fill(0)
    attempt_counts.roll_up()
    assert 0 < client.ttl(f"jobs:counts:{hour(1) * 60 + 1}") <= attempt_counts.MINUTES_KEPT
    assert client.ttl(f"jobs:counts:{hour(0) * 60 + 1}") == -1  # step.lua sets the time of those
    assert attempt_counts.by_command(2 * HOUR)["low", "a.B"].attempts >= 10


def test_usual_are_the_medians_of_the_hours_with_attempts():
    found = digests.usual(
        [Digest(100, 10, 2, 1.0, 4.0), Digest(), Digest(300, 3, 3, 2.0, 8.0), Digest(200, 2, 0, 1, 4)]
    )
    assert (found.hours, found.attempts, found.failed, found.p95) == (3, 200, 0.01, 4.0)
    assert found.is_known
    assert not digests.usual([Digest(), Digest(5)]).is_known
    assert not digests.usual([]).is_known


def test_usual_is_compared_with_the_same_hour_of_the_last_days(valkey):
    now = time.time()
    client = get_connection("default")
    for days in (1, 2, 7):
        client.hset(f"jobs:digest:{int(now) // HOUR - 24 * days}", "command|a.B", "50 5 1 0.1 0.2 9 0")
    client.hset(f"jobs:digest:{int(now) // HOUR - 23}", "command|a.B", "9999 0 0 9 9 9 0")
    usual = digests.usual_now(now)
    assert (usual.commands["a.B"].hours, usual.commands["a.B"].attempts, usual.commands["a.B"].p95) == (3, 50, 0.2)
    assert usual.queues["low"].wait == 0
    assert not usual.together.is_known


def test_what_is_usual_for_all_queues_together(valkey):
    now, client = time.time(), get_connection("default")
    for days in range(1, 8):
        fields = {
            "queue|low": "50 5 1 0.1 0.2 9 40",
            "queue|default": f"{days}50 5 2 0.1 0.2 {days} 3",
            "command|a.B": "7",
        }
        client.hset(f"jobs:digest:{int(now) // HOUR - 24 * days}", mapping=fields)
    usual = digests.usual_now(now).together
    assert (usual.hours, usual.attempts, usual.dead, usual.seconds, usual.wait) == (7, 500, 3, 13, 40)


def test_the_longest_wait_of_an_hour_and_its_queue(valkey):
    fields = {"queue|low": "0 0 0 0 0 0 40", "queue|default": "9 0 0 0 0 0 3", "queue|gone": "9 0 0 0 0 0 99"}
    get_connection("default").hset(f"jobs:digest:{hour()}", mapping=fields)
    assert digests.waits([hour(), hour(1)]) == {hour(): (40.0, "low"), hour(1): (0.0, "")}


def test_the_threads_that_are_sampled_are_no_queue(valkey):
    fill(latency="41.5")
    get_connection("default").hset(f"jobs:samples:{hour() * HOUR // MINUTE + 2}", "|threads", "3 70")
    write_all()
    assert set(digests.read([hour()])[hour()].queues) == {"low"}


def test_what_is_no_digest_counts_nothing(valkey):
    client = get_connection("default")
    client.hset(f"jobs:digest:{hour()}", mapping={"command|a.B": "x y", "nonsense": "1", "queue|low": b"\xff", "|": ""})
    client.set(f"jobs:digest:{hour(1)}", "no hash")
    found = digests.read([hour(), hour(1)])
    assert found[hour()].commands == {"a.B": Digest()}
    assert found[hour(1)].commands == {}
