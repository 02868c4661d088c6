"""Pauses of limits, other values than the code's, and the values of the newest release."""

import json
import time

import pytest
from django.core.management import CommandError, call_command

from jobs.broker import keys
from jobs.broker.connections import get_connection
from jobs.errors import LimitError
from jobs.limits import control
from jobs.limits.usage import usage
from jobs.worker.connection import Wire
from jobs.worker.promotion import Promotion
from tests.jobs.worker.conftest import new_fetch as new_fetch
from tests.jobs.worker.test_limits import claim_all, finish, ids
from tests.sample.commands.limited import OneAtATime, OnePerShop, Rated

ONE, SHOP, RATED = "sample.OneAtATime:concurrency:", "sample.OnePerShop:concurrency:shop", "sample.Rated:rate:"


@pytest.fixture
def sweep(valkey):
    wire = Wire("default")
    promotion = Promotion(wire)
    yield lambda: promotion.run(["default"])
    wire.close()


def test_a_limit_is_paused_and_resumed(new_fetch, sweep):
    jobs = OneAtATime.defer_many([(1,), (2,)])
    fetch = new_fetch("w1")
    control.pause(ONE)
    assert claim_all(fetch) == []
    sweep()
    assert claim_all(fetch) == []
    assert [job.state for job in jobs] == ["limited", "limited"]

    control.resume(ONE)
    sweep()

    assert ids(claim_all(fetch)) == [jobs[0].id]


def test_one_value_of_a_key_is_paused(new_fetch, sweep):
    a, b = OnePerShop.defer("a"), OnePerShop.defer("b")
    fetch = new_fetch("w1")
    control.pause(SHOP, value="a", seconds=30)

    assert ids(claim_all(fetch)) == [b.id]
    assert 29 < fetch._steps.until_due <= 30
    (shown,) = [each for each in usage() if each.id == SHOP]
    assert shown.paused_values == ['"a"']

    control.resume(SHOP, value="a")
    sweep()
    assert ids(claim_all(fetch)) == [a.id]


def test_other_values_hold_until_they_are_taken_back(new_fetch, sweep):
    OneAtATime.defer_many([(number,) for number in range(5)])
    fetch = new_fetch("w1", threads=5)
    control.override(ONE, n=2)
    claims = claim_all(fetch)
    assert len(claims) == 2

    control.take_back(ONE)  # nothing is killed
    finish(fetch, claims[0])
    assert claim_all(fetch) == []
    finish(fetch, claims[1])
    assert len(claim_all(fetch)) == 1


def test_what_is_not_declared_or_not_possible_is_refused():
    with pytest.raises(LimitError, match="Unknown limit: 'nobody'"):
        control.pause("nobody")
    with pytest.raises(LimitError, match="override its `n` alone"):
        control.override(ONE, per=3)
    with pytest.raises(ValueError, match="seconds=-1"):
        control.pause(ONE, seconds=-1)


def test_the_values_of_the_newest_release_hold(new_fetch):
    client, now = get_connection("default"), time.time()
    control.publish(client, "new")
    client.hset(keys.limit(ONE), mapping={"n": 3})
    client.hset(keys.RELEASES, mapping={"new": f"{now - 60} {now}", "old": f"{now - 600} {now}"})

    control.publish(client, "old")  # a worker of the older release starts late
    assert client.hget(keys.limit(ONE), "n") == b"3"
    OneAtATime.defer_many([(number,) for number in range(5)])
    assert len(claim_all(new_fetch("w1", threads=5))) == 3

    client.hset(keys.RELEASES, "new", f"{now - 60} {now - 600}")  # it is gone: rolled back
    control.publish(client, "old")
    assert client.hget(keys.limit(ONE), "n") == b"1"


def test_the_use_of_limits(new_fetch, capsys):
    jobs = OneAtATime.defer_many([(number,) for number in range(3)])
    Rated.defer_many([(number,) for number in range(3)])
    claim_all(new_fetch("w1", threads=5))

    found = {each.id: each for each in usage()}
    one, rated = found[ONE], found[RATED]
    assert (one.n, one.in_use, one.waiting, one.commands) == (1, 1, 2, ["sample.OneAtATime"])
    assert one.places[0].holders == [jobs[0].id]
    assert (rated.n, rated.per, rated.burst, rated.waiting) == (2, 60, 2, 1)
    assert 28 < rated.next_due - time.time() < 31
    assert f"1 in use by job {jobs[0].id}" in jobs[1].reason

    call_command("jobs", "limits", "--json")
    shown = {each["id"]: each for each in json.loads(capsys.readouterr().out)["limits"]}
    assert (shown[ONE]["in_use"], shown[ONE]["waiting"]) == (1, 2)
    call_command("jobs", "limits", "set", ONE, "--n", "4")
    call_command("jobs", "limits", "pause", SHOP, "--value", "a")
    call_command("jobs", "limits", "list", ONE, SHOP)
    shown = capsys.readouterr().out
    assert "4 at once" in shown
    assert 'paused for "a"' in shown
    call_command("jobs", "limits", "reset", ONE)
    with pytest.raises(CommandError, match="Unknown limit"):
        call_command("jobs", "limits", "pause", "nobody")
