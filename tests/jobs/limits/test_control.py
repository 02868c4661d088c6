"""Pauses of limits, other values than the code's, and the values of the newest release."""

import json
import re
import time

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from jobs import Concurrency, Mandate, Rate, execution, limit
from jobs.attempts.interrupt import Interruptible
from jobs.attempts.outcomes import Amended
from jobs.broker import keys
from jobs.broker.connections import get_connection
from jobs.control import change_all
from jobs.dashboard import prometheus
from jobs.doctor import limits
from jobs.errors import CommandDefinitionError, LimitError
from jobs.inspection import activity
from jobs.limits import control, paused, values
from jobs.limits.checks import check_limits
from jobs.limits.usage import usage
from jobs.record import registry
from jobs.worker import pauses
from jobs.worker.connection import Wire
from jobs.worker.promotion import Promotion
from tests.jobs.dashboard.pages import send, text, url
from tests.jobs.worker.conftest import new_fetch as new_fetch
from tests.jobs.worker.test_limits import claim_all, finish, ids
from tests.sample.commands.limited import OneAtATime, OnePerShop, Rated
from tests.sample.commands.notes import WriteNote

ONE, SHOP, RATED = "sample.OneAtATime:concurrency:", "sample.OnePerShop:concurrency:shop", "sample.Rated:rate:"


@pytest.fixture
def sweep(valkey, monkeypatch):
    """As often as it takes, however long, until no lane is due."""
    monkeypatch.setattr("jobs.worker.promotion.LONGEST", 60.0)
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
    assert jobs[1].reason == f"{ONE} is paused"

    control.resume(ONE)
    sweep()

    assert ids(claim_all(fetch)) == [jobs[0].id]


def test_one_value_of_a_key_is_paused(new_fetch, sweep):
    a, b = OnePerShop.defer("a"), OnePerShop.defer("b")
    fetch = new_fetch("w1")
    control.pause(SHOP, value="a", seconds=3_600)

    assert ids(claim_all(fetch)) == [b.id]
    assert re.fullmatch(rf'{SHOP}="a": the next may start at \d{{4}}-\S+Z', a.reason)
    control.pause(SHOP, value="a")
    assert a.reason == f'{SHOP}="a" is paused'
    assert 3_540 < fetch._steps.until_due <= 3_600
    (shown,) = [each for each in usage() if each.id == SHOP]
    assert shown.paused_values == ['"a"']

    control.resume(SHOP, value="a")
    sweep()
    assert ids(claim_all(fetch)) == [a.id]


@pytest.mark.parametrize("change", ["resume", "override"])
def test_many_lanes_go_on_at_once(change, new_fetch, sweep):
    if change == "resume":
        control.pause(SHOP)
    else:
        OnePerShop.defer_many([(f"shop-{number}",) for number in range(130)])
        claim_all(new_fetch("w0", threads=130))
        control.override(SHOP, n=1)
    jobs = OnePerShop.defer_many([(f"shop-{number}",) for number in range(130)])
    fetch = new_fetch("w1", threads=130)
    while not all(job.state == "limited" for job in jobs):
        assert claim_all(fetch) == []

    if change == "resume":
        control.resume(SHOP)
    else:
        control.override(SHOP, n=2)
    sweep()

    assert len(get_connection("default").lrange(keys.queue("default"), 0, -1)) == 130
    assert get_connection("default").exists(keys.LIMITS_DUE) == 0


@pytest.fixture
def follow(valkey):
    """Read what is paused, as a worker's parent does."""
    wire = Wire("default")
    yield lambda: pauses.follow(wire, ())
    wire.close()
    paused.commands = frozenset()


def hand_back(fetch):
    """Claim jobs, and attempt them. Returns how many were not handed back."""
    others = 0
    for claim in claim_all(fetch):
        claim.started = 0.0
        ended = execution.attempt(claim, Interruptible())
        others += not isinstance(ended.outcome, Amended)
        fetch.commits.add(claim, *ended, 0.001)
    return others


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("command", [WriteNote, OneAtATime])
def test_a_command_is_paused_and_keeps_its_order(command, new_fetch, sweep, follow):
    name = registry.name_of(command)
    jobs = command.defer_many([(str(number),) if command is WriteNote else (number,) for number in range(6)])
    fetch = new_fetch("w1", threads=2)
    control.pause(name)
    follow()
    while not all(job.state == "limited" for job in jobs):
        assert hand_back(fetch) == 0
    assert jobs[0].reason == f"{name} is paused"
    assert jobs[0].progress.attempts == 0
    (shown,) = [each for each in usage() if each.is_command]
    assert (shown.id, shown.commands, shown.is_paused, shown.waiting) == (f"{name}:pause:", [name], True, 6)

    control.resume(name)
    follow()
    assert paused.commands == frozenset()
    sweep()
    done = []
    while claims := claim_all(fetch):
        assert command is WriteNote or len(claims) == 1
        done += ids(claims)
        for claim in claims:
            claim.started = 0.0
            assert not isinstance(execution.attempt(claim, Interruptible()).outcome, Amended)
        finish(fetch, *claims)
    assert done == [job.id for job in jobs]
    assert get_connection("default").keys("jobs:l[ai]*") == []
    assert [each for each in usage() if each.is_command] == []


def test_a_pause_ends_by_itself(new_fetch, sweep, follow):
    job, limited = WriteNote.defer("x"), OneAtATime.defer(1)
    fetch = new_fetch("w1")
    for name in ("sample.WriteNote", ONE):
        control.pause(name, seconds=30)
    follow()
    assert hand_back(fetch) == 0
    assert claim_all(fetch) == []
    assert (job.state, limited.state) == ("limited", "limited")

    client, over = get_connection("default"), time.time() - 1
    for key in (keys.limit("sample.WriteNote:pause:"), keys.limit(ONE)):
        client.hset(key, "paused", over)
    client.hset(keys.PAUSED_COMMANDS, "sample.WriteNote", over)
    client.zadd(keys.LIMITS_DUE, {"sample.WriteNote:pause:=": 0, f"{ONE}=": 0})
    follow()
    sweep()
    assert sorted(ids(claim_all(fetch))) == sorted([job.id, limited.id])
    assert client.exists(keys.limit("sample.WriteNote:pause:")) == 0


@pytest.mark.django_db(transaction=True)
def test_a_command_is_paused_on_its_page_and_on_a_terminal(new_fetch, admin_client, capsys, follow):
    assert url("limit_pause", "sample.WriteNote") in text(admin_client, url("command", "sample.WriteNote"))
    shown = send(admin_client, url("limit_pause", "sample.WriteNote"), next=url("limits"))
    assert "sample.WriteNote is paused" in shown
    assert url("limit_resume", "sample.WriteNote:pause:") in shown
    assert url("limit_override", "sample.WriteNote:pause:") not in shown
    assert url("limit_resume", "sample.WriteNote") in text(admin_client, url("command", "sample.WriteNote"))
    with pytest.raises(LimitError, match="has no key"):
        control.pause("sample.WriteNote", value="x")
    with pytest.raises(LimitError, match="Unknown limit"):
        control.override("sample.WriteNote", n=2)

    call_command("jobs", "limits", "resume", "sample.WriteNote")
    call_command("jobs", "limits", "pause", "sample.Once")
    call_command("jobs", "limits")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if ":pause:" in line]
    assert line.split("\t")[:2] == ["sample.Once:pause:", "all"]
    follow()
    assert paused.commands == {"sample.Once"}


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
    with pytest.raises(CommandError, match="Unknown limit: 'nobody'"):
        call_command("jobs", "limits", "list", "nobody")
    with pytest.raises(ValueError, match="Give the rate a name"):
        limit("", Rate(1, per=1))
    with pytest.raises(CommandDefinitionError, match="has the key 'shop'"):
        limit("stripe", Rate(1, per=1, key="shop"))
    with pytest.raises(LimitError, match="override its `n` alone"):
        control.override(ONE, per=3)
    with pytest.raises(ValueError, match="seconds=-1"):
        control.pause(ONE, seconds=-1)


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({"n": 20}, ["20", "60.0", "5"]),  # the code's burst is not lost: it would let 20 come at once
        ({"n": 3}, ["3", "60.0", "3"]),
        ({"per": 5}, ["40", "5.0", "5"]),
        ({"burst": 8}, ["40", "60.0", "8"]),
    ],
)
def test_what_an_override_does_not_give_is_the_codes(given, values, own_commands):
    body = {
        "limits": [Rate(40, per=60, burst=5, cost=2)],
        "call": lambda self: None,
        "__module__": "tests.sample.commands",
    }
    name = registry.name_of(type("Evenly", (Mandate,), body))
    control.override(f"{name}:rate:", **given)
    found = get_connection("default").hmget(keys.limit(f"{name}:rate:"), "own_n", "own_per", "own_burst")
    assert [each.decode() for each in found] == values

    for impossible in ({"n": 0}, {"n": -1}, {"per": 0}, {"burst": 0}, {"burst": 1}):  # 1: less than the cost
        with pytest.raises(CommandDefinitionError):
            control.override(f"{name}:rate:", **impossible)
    with pytest.raises(LimitError, match="Nothing was given"):
        control.override(f"{name}:rate:")


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


def test_jobs_that_have_left_a_long_lane_are_not_counted(new_fetch):
    _first, *others = OneAtATime.defer_many([(number,) for number in range(4)])
    claim_all(new_fetch("w1", threads=5))
    client, lane = get_connection("default"), keys.lane(f"{ONE}=", "default")
    client.rpush(lane, *(f"gone-{number}" for number in range(1_100)))

    change_all("cancel", others[:2])

    assert client.llen(lane) == 1_103
    (one,) = [each for each in usage() if each.id == ONE]
    assert one.waiting == 1


def test_the_doctor_names_what_does_not_move(new_fetch):
    OneAtATime.defer_many([(number,) for number in range(3)])
    fetch = new_fetch("w1")
    claims = claim_all(fetch)
    client, place = get_connection("default"), f"{ONE}="
    client.zadd(keys.LIMITED, {place: time.time() - 7_200})

    (finding,) = [each for each in limits.findings() if ONE in each.what]
    assert finding.what == f"2 jobs wait for the limit {ONE} of all, since 2.0 h."
    assert claims[0].job_id in finding.why

    client.delete(keys.slots(place), keys.holds("w1"))  # a lost wake-up, which must not be
    (finding,) = [each for each in limits.findings() if ONE in each.what]
    assert finding.what == f"The limit {ONE} has room for all, and 2 wait for it."

    control.pause(ONE)
    (finding,) = [each for each in limits.findings() if ONE in each.what]
    assert finding.what == f"The limit {ONE} is paused, and 2 jobs wait for it."


@pytest.mark.django_db(transaction=True)
def test_the_metrics(new_fetch):
    OneAtATime.defer_many([(number,) for number in range(3)])
    claim_all(new_fetch("w1"))

    text = prometheus.text().decode()

    assert f'jobs_limit_in_use{{limit="{ONE}"}} 1.0' in text
    assert f'jobs_limit_waiting{{limit="{ONE}"}} 2.0' in text
    assert f'jobs_limit_waited_seconds{{limit="{ONE}"}} ' in text


def test_the_checks(settings, own_commands, valkey):
    assert check_limits(None) == []
    settings.JOBS = settings.JOBS | {"SHARE": "no.such.function"}
    (error,) = check_limits(None)
    assert (error.id, "no.such.function" in error.msg) == ("jobs.E023", True)

    settings.JOBS = settings.JOBS | {"SHARE": "tenant"}
    for name, number in (("One", 1), ("Five", 5)):
        body = {"limits": [Concurrency(number, group="both")], "call": lambda self: None}
        type(name, (Mandate,), body | {"__module__": "tests.sample.commands.limited"})
    (error,) = check_limits(None)
    assert error.id == "jobs.E025"
    assert "sample.Five: 5 at once, sample.One: 1 at once" in error.msg
    del registry._commands["sample.Five"]

    other = settings.RQ_QUEUES["low"] | {"URL": "redis://localhost:1/5"}
    settings.RQ_QUEUES = settings.RQ_QUEUES | {"low": {"URL": other["URL"]}}
    body = {"limits": [Concurrency(1, group="a")], "queue": "low", "call": lambda self: None}
    type("Elsewhere", (Mandate,), body | {"__module__": "tests.sample.commands.limited"})
    (error,) = check_limits(None)
    assert error.id == "jobs.E022"
    assert "sample.Elsewhere" in error.msg


@pytest.mark.django_db(transaction=True)
def test_the_page_shows_limits_and_changes_them(new_fetch, admin_client):
    jobs = OneAtATime.defer_many([(number,) for number in range(3)])
    claim_all(new_fetch("w1"))
    page = admin_client.get(reverse("admin:jobs_limits")).content.decode()
    assert ONE in page
    assert "2 wait" in page
    assert reverse("admin:jobs_job", args=[jobs[0].id]) in page

    admin_client.post(reverse("admin:jobs_limit_pause", args=[ONE]))
    admin_client.post(reverse("admin:jobs_limit_override", args=[ONE]), {"n": "7"})
    (one,) = [each for each in usage() if each.id == ONE]
    assert (one.n, one.is_overridden, one.is_paused) == (7, True, True)

    admin_client.post(reverse("admin:jobs_limit_resume", args=[ONE]))
    admin_client.post(reverse("admin:jobs_limit_override", args=[ONE]), {"n": ""})
    answer = {"n": "many", "next": reverse("admin:jobs_limits")}
    refused = admin_client.post(reverse("admin:jobs_limit_override", args=[ONE]), answer, follow=True)
    assert [str(each) for each in refused.context["messages"]][-1:] == ["many is no whole number."]
    (one,) = [each for each in usage() if each.id == ONE]
    assert (one.n, one.is_overridden, one.is_paused) == (1, False, False)


@pytest.mark.django_db(transaction=True)
def test_the_page_pauses_and_resumes_a_value(new_fetch, admin_client):
    a, long = OnePerShop.defer("a"), OnePerShop.defer("b" * 200)
    digest = values.text("b" * 200)
    for typed in ("a", digest):
        send(admin_client, url("limit_pause", SHOP), value=typed)
    assert claim_all(new_fetch("w1")) == []
    assert [job.state for job in (a, long)] == ["limited", "limited"]
    page = text(admin_client, url("limits"))
    for value in ("&quot;a&quot;", digest):
        assert f'<input type="hidden" name="value" value="{value}">' in page

    shown = send(admin_client, url("limit_resume", SHOP), value=digest)
    assert f"The limit {SHOP} was resumed for {digest}." in shown
    (shop,) = [each for each in usage() if each.id == SHOP]
    assert (shop.is_paused, shop.paused_values) == (False, ['"a"'])

    assert "Give the value of the key" in send(admin_client, url("limit_pause", SHOP), value=" ", next=url("limits"))
    assert "has no key" in send(admin_client, url("limit_pause", ONE), value="a", next=url("limits"))
    assert 'name="value" size="8"' not in page.partition(ONE)[2].partition("</tr>")[0]


@pytest.mark.django_db(transaction=True)
def test_the_api_has_the_limits(new_fetch, admin_client):
    jobs = OneAtATime.defer_many([(1,), (2,)])
    claim_all(new_fetch("w1"))
    control.pause(SHOP, value="a")

    shown = {each["id"]: each for each in admin_client.get(url("api_limits")).json()["limits"]}

    assert (shown[ONE]["n"], shown[ONE]["in_use"], shown[ONE]["waiting"], shown[ONE]["next_due"]) == (1, 1, 1, None)
    assert shown[ONE]["places"][0]["holders"] == [jobs[0].id]
    assert shown[SHOP]["paused_values"] == ['"a"']


@pytest.mark.django_db(transaction=True)
def test_a_limited_job_runs_past_its_limits_from_its_page_and_a_terminal(new_fetch, admin_client, capsys):
    first, second, third = OneAtATime.defer_many([(1,), (2,), (3,)])
    fetch = new_fetch("w1", threads=3)
    assert ids(claim_all(fetch)) == [first.id]
    with pytest.raises(CommandError, match="exit code 1"):
        call_command("jobs", "run-now", third.id)
    assert "jobs run-now --force" in capsys.readouterr().err

    assert url("job_force", second.id) in text(admin_client, url("job", second.id))
    asked = admin_client.post(url("job_force", second.id))
    assert "Run job" in asked.content.decode()
    assert second.state == "limited"
    assert "past its limits" in send(admin_client, url("job_force", second.id))
    call_command("jobs", "run-now", "--force", third.id)
    assert "set to run now, past their limits" in capsys.readouterr().out

    assert sorted(ids(claim_all(fetch))) == sorted([second.id, third.id])
    assert [activity.of_job(job.id)[0].what for job in (second, third)] == ["run_now", "run_now"]


def test_a_typed_value_is_that_of_the_list_or_json_or_text():
    digest = values.text("b" * 200)
    assert [values.typed(given) for given in ("7", "shop 7", '"7"', digest, "b" * 200, "null")] == [
        *("7", '"shop 7"', '"7"', digest, digest, "null")
    ]
