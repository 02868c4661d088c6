"""The rules for problems, by tables of figures: what is above what is usual, and what has ended."""

from collections import Counter

import pytest

from jobs.inspection import problems
from jobs.inspection.attempt_counts import Tally
from jobs.inspection.digests import Usual
from jobs.inspection.problems import QueueFigures, is_above, of_commands, of_queues

NOW = 1_000_000 * 60 + 30
WELL = Usual(hours=7, attempts=100, failed=0.01, p50=0.1, p95=0.26)


def tally(finished=0, dead=0, retried=0, bucket=17):
    counted = Tally()
    for outcome, count in (("finished", finished), ("dead", dead), ("retried", retried)):
        if count:
            counted.add(outcome, bucket, count)
    return counted


def row(counted, queue, command):
    return queue, command, dict(counted.outcomes), [number for pair in counted.buckets.items() for number in pair]


def hour(recent, before=None, queue="mailers", command="shop.SendReceipt", last=None):
    """An hour of one command: `recent` in each of the last 10 minutes, `before` earlier, `last` in the very last."""
    minutes = []
    for at in range(60):
        each = last if at == 59 and last is not None else recent if at >= 50 else before or tally(finished=10)
        minutes.append((NOW // 60 * 60 - (59 - at) * 60, [row(each, queue, command)]))
    return minutes


@pytest.mark.parametrize(
    ("failed", "attempts", "usual", "is_problem"),
    [
        (0, 100, 0.0, False),
        (4, 4, 0.0, False),  # too few
        (5, 5, 0.0, True),
        (9, 100, 0.0, False),  # a small part
        (10, 100, 0.0, True),
        (30, 100, 0.28, False),  # as usual
        (30, 100, 0.14, True),
        (6, 20, 0.14, False),  # chance explains it
        (40, 100, None, False),  # nothing is known: only half of all is sure
        (50, 100, None, True),
        (5, 0, None, False),
    ],
)
def test_failures_above_what_is_usual(failed, attempts, usual, is_problem):
    assert is_above(failed, attempts, usual) is is_problem


def test_a_command_that_fails_has_its_cause_and_its_start():
    errors = {"shop.SendReceipt": Counter(ProviderError=98, KeyError=2)}
    (found,) = of_commands(hour(tally(finished=1, dead=9)), {"shop.SendReceipt": WELL}, errors, NOW)
    assert (found.kind, found.command, found.queue) == ("failures", "shop.SendReceipt", "mailers")
    assert found.count == 90
    assert found.cause == ("ProviderError", 0.98)
    assert found.since == NOW // 60 * 60 - 9 * 60
    assert found.usual == 0.01
    assert found.spark == (0.0,) * 50 + (9.0,) * 10


def test_one_that_is_only_retried_is_milder():
    (found,) = of_commands(hour(tally(finished=1, retried=9)), {"shop.SendReceipt": WELL}, {}, NOW)
    assert found.kind == "retries"
    assert found.cause == ("", 0.0)


@pytest.mark.parametrize(
    ("last", "is_problem"),
    [
        (tally(finished=3), False),  # the next attempts succeed
        (tally(finished=2), True),  # too few to say so
        (tally(finished=30, dead=1), True),
        (Tally(), True),  # nothing ran since, as in a paused queue
    ],
)
def test_what_has_been_mended_is_no_problem_any_more(last, is_problem):
    found = of_commands(hour(tally(dead=9), last=last), {"shop.SendReceipt": WELL}, {}, NOW)
    assert bool(found) is is_problem


def test_failures_that_are_usual_at_this_hour_are_no_problem():
    usual = {"shop.SendReceipt": Usual(hours=7, attempts=100, failed=0.5, p95=0.26)}
    assert of_commands(hour(tally(finished=5, dead=5)), usual, {}, NOW) == []


@pytest.mark.parametrize(
    ("bucket", "usual", "attempts", "is_problem"),
    [
        (22, WELL, 10, True),  # 4.2 s instead of 0.26
        (18, WELL, 10, False),  # as usual
        (19, WELL, 10, False),  # the next bucket: no sign
        (22, Usual(), 10, False),  # nothing is known
        (22, Usual(hours=7, p95=2.1), 10, False),
        (18, Usual(hours=7, p95=0.001), 10, False),  # slower, but not slow
        (22, WELL, 0, False),
    ],
)
def test_a_command_that_became_slow(bucket, usual, attempts, is_problem):
    found = of_commands(hour(tally(finished=attempts, bucket=bucket)), {"shop.SendReceipt": usual}, {}, NOW)
    assert [each.kind for each in found] == ["runtime"] * is_problem
    if found:
        assert found[0].now == 2**22 / 1e6
        assert found[0].since == NOW // 60 * 60 - 9 * 60


QUEUE = {"length": 7, "wait": 100.0, "target": 60.0, "threads": 2}


@pytest.mark.parametrize(
    ("changed", "usual", "kinds"),
    [
        ({}, {}, ["wait"]),
        ({"wait": 60.0}, {}, []),
        ({"is_paused": True}, {}, []),  # that is said elsewhere
        ({"threads": 0}, {}, []),
        ({}, {"low": Usual(wait=60.0)}, []),  # as at this hour of the last days
        ({}, {"low": Usual(wait=40.0)}, ["wait"]),
    ],
)
def test_a_queue_waits_longer_than_its_target_and_than_usual(changed, usual, kinds):
    found = of_queues([QueueFigures("low", **{**QUEUE, **changed})], usual, [])
    assert [each.kind for each in found] == kinds


def test_a_starved_queue_has_its_reason():
    busy = hour(tally(finished=82, bucket=20), queue="default")  # 82 attempts of 0.79 s a minute: 107 % of a thread
    high = QueueFigures("default", 3, 1.0, 60.0, 2)
    (found,) = of_queues([high, QueueFigures("low", **QUEUE)], {}, busy)
    assert (found.kind, found.threads, found.queue) == ("wait", 2, "low")
    busy = hour(tally(finished=140, bucket=20), queue="default")
    (found,) = of_queues([high, QueueFigures("low", **QUEUE)], {}, busy)
    assert found.kind == "starved"
    assert 0.9 < found.part_above < 0.93
    busy = hour(tally(finished=140, bucket=20), queue="low")  # its own jobs: no starvation
    assert [each.kind for each in of_queues([high, QueueFigures("low", **QUEUE)], {}, busy)] == ["wait"]


def test_the_hour_may_have_gaps_and_nothing_at_all():
    assert of_commands([], {}, {}, NOW) == of_queues([], {}, []) == []
    assert problems.of_commands([(NOW - 30, [row(tally(dead=7), "a", "b.C")])], {}, {}, NOW)[0].count == 7
