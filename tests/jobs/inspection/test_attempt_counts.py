"""The attempt counters, read by time, by command and by queue."""

import contextlib
import time

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from jobs.broker.connections import get_connection
from jobs.broker.times import HOUR, MINUTE
from jobs.inspection import attempt_counts, packed_counts
from jobs.inspection.attempt_counts import Tally
from tests.sample.commands.notes import Fail, WriteNote

pytestmark = pytest.mark.django_db(transaction=True)


def count(minutes_ago, label, number):
    minute = int(time.time()) // MINUTE - minutes_ago
    get_connection("default").hincrby(f"jobs:counts:{minute}", label, number)


def test_attempts_are_counted_at_once(worker):
    WriteNote.defer_many([("x",)] * 3, queue="low")
    Fail.defer()
    worker.run()

    found = attempt_counts.by_command(HOUR)
    assert {label: dict(tally.outcomes) for label, tally in found.items()} == {
        ("low", "sample.WriteNote"): {"finished": 3},
        ("default", "sample.Fail"): {"dead": 1},
    }
    assert found["low", "sample.WriteNote"].attempts == 3
    assert found["default", "sample.Fail"].failed == 1
    assert 0 < found["low", "sample.WriteNote"].quantile(0.5) < 1
    assert attempt_counts.by_queue(HOUR)["low"].attempts == 3
    assert sum(tally.attempts for _, tally in attempt_counts.by_time(HOUR, MINUTE)) == 4


def test_by_the_minute(valkey, one_minute):
    count(0, "low|a.B|finished|10", 5)
    count(7, "low|a.B|retried|10", 2)
    count(70, "low|a.B|finished|10", 100)
    steps = attempt_counts.by_time(HOUR, MINUTE)

    assert len(steps) == 60
    assert steps[-1][1].attempts == 5
    assert [tally.failed for _, tally in steps if tally.failed] == [2]
    assert sum(tally.attempts for _, tally in steps) == 7


def test_by_the_hour_over_three_days_each_hour_is_added_up_once(valkey):
    for minutes_ago in (90, 91, 26 * 60, 71 * 60):
        count(minutes_ago, "low|a.B|finished|10", 3)
    before = [tally.attempts for _, tally in attempt_counts.by_time(72 * HOUR, HOUR)]
    client = get_connection("default")
    assert sum(before) == 12
    assert len(before) in {72, 73}
    sums = client.keys("jobs:counts:hour:*")
    assert 70 <= len(sums) <= 73
    for key in client.keys("jobs:counts:[0-9]*"):
        if int(key.rpartition(b":")[2]) < time.time() // 60 - 125:
            client.delete(key)  # the minutes are gone, their sums are not

    assert [tally.attempts for _, tally in attempt_counts.by_time(72 * HOUR, HOUR)] == before
    assert 0 < client.ttl(sums[0]) <= attempt_counts.HOURS_KEPT


def test_the_present_hour_may_be_taken_from_its_minutes(valkey):
    count(0, "low|a.B|finished|10", 5)
    count(0, "default|a.B|dead|10", 1)
    count(59, "low|a.B|retried|10", 2)
    count(26 * 60, "low|a.B|finished|10", 7)
    steps = attempt_counts.by_time(72 * HOUR, HOUR)
    assert attempt_counts.by_time(72 * HOUR, HOUR, last_hour=attempt_counts.by_time_and_queue(HOUR, MINUTE)) == [
        (start, Tally(tally.outcomes)) for start, tally in steps
    ]
    assert sum(tally.attempts for _, tally in steps) == 15


def test_the_total_only_grows_and_has_every_attempt_once(valkey, monkeypatch):
    count(0, "low|a.B|finished|10", 1)
    count(70, "low|a.B|finished|10", 4)
    count(26 * 60, "low|a.B|dead|12", 2)
    expected = {("low", "a.B", "finished"): {10: 5}, ("low", "a.B", "dead"): {12: 2}}
    attempt_counts.by_time(72 * HOUR, HOUR)  # somebody has looked at the chart first
    for _ in range(2):
        assert {label: dict(buckets) for label, buckets in attempt_counts.totals().items()} == expected
        attempt_counts.roll_up()
        attempt_counts.roll_up()
    client = get_connection("default")
    for key in client.keys("jobs:counts:[0-9]*"):
        if int(key.rpartition(b":")[2]) < time.time() // 60 - 125:
            client.delete(key)  # the minutes expire
    assert {label: dict(buckets) for label, buckets in attempt_counts.totals().items()} == expected


def test_a_minute_with_thousands_of_labels_is_added_up_in_slices(valkey, monkeypatch, one_minute):
    """It may end after any slice, and another may go on; readers see a sum once it is whole."""
    client, run, calls = get_connection("default"), attempt_counts.run_script, []
    for minutes_ago in (121, 122):
        hour = int(time.time()) // 3600 - 2
        minute = hour * 60 + minutes_ago - 100
        client.hset(f"jobs:counts:{minute}", mapping={f"low|a.B{n}|finished|10": 2 for n in range(3_000)})
    client.hset("jobs:counts:total", mapping={f"low|a.B{n}|finished|10": 5 for n in range(1_000, 4_000)})

    def dying(*words):
        total = client.hgetall("jobs:counts:total")
        assert sum(map(int, total.values())) in {15_000, 27_000 + hour, 15_000 + hour - 1}
        calls.append(words)
        if len(calls) % 3 == 0:
            raise RedisConnectionError("the reader dies")
        return run(*words)

    monkeypatch.setattr(attempt_counts, "run_script", dying)
    client.set("jobs:counts:summed", hour - 1)
    for _ in range(100):
        with contextlib.suppress(RedisConnectionError):
            attempt_counts.roll_up()
            break
    assert len(calls) > 15
    total = client.hgetall("jobs:counts:total")
    counts = [int(total[f"low|a.B{n}|finished|10".encode()]) for n in (0, 2_000, 3_500)]
    assert counts == [4, 9, 5]
    assert len(total) == 4_001
    assert client.ttl("jobs:counts:total") == -1
    assert client.hlen(f"jobs:counts:hour:{hour}") == 3_001
    assert not client.keys("jobs:counts:*ing:*")


def test_quantiles_are_the_upper_end_of_their_bucket():
    tally = Tally()
    tally.add("finished", 10, 98)  # under 1.024 ms
    tally.add("finished", 20, 2)  # under 1.05 s
    assert tally.quantile(0.5) == 2**10 / 1e6
    assert tally.quantile(0.95) == 2**10 / 1e6
    assert tally.quantile(0.99) == 2**20 / 1e6
    assert tally.seconds == pytest.approx(98 * 0.75 * 2**10 / 1e6 + 2 * 0.75 * 2**20 / 1e6)
    assert Tally().quantile(0.99) == 0.0


@pytest.mark.parametrize("label", ["nonsense", "a|b|c", "a|b|finished|x", ""])
def test_an_invalid_label_is_left_out(label, valkey):
    count(0, label, 5)
    assert attempt_counts.by_command(HOUR) == {}


def test_minutes_with_the_same_counts_count_each():
    """A process keeps one object for equal values, so that two minutes may be the same."""
    fresh = packed_counts.rows_of([(("low", "a.B", "finished", 10), 5), (("low", "a.B", "dead", 11), 1)])
    one, other = (packed_counts.unpack(packed_counts.pack(fresh)) for _ in range(2))
    assert one is other
    for _ in range(2):  # the second time from what is kept
        assert packed_counts.merged([one, other, fresh]) == [
            ("low", "a.B", {"finished": 15, "dead": 3}, [10, 15, 11, 3])
        ]
    assert one == [["low", "a.B", {"finished": 5, "dead": 1}, [10, 5, 11, 1]]], "a reader has changed what others share"
