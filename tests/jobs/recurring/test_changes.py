"""A change of a recurring entry keeps what it does not name: its next time, its missed runs, its state, its history."""

import time
from datetime import timedelta

import orjson
import pytest

from jobs import scheduler
from jobs.broker.connections import get_connection
from jobs.errors import ScheduleError
from jobs.recurring import writing
from jobs.scheduler import Entry, Scheduler
from tests.sample.commands.notes import WriteNote

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = 3_600
ALL = "rq:scheduler:scheduled_jobs"


def entry(name="weekly", **options):
    return Entry(name, WriteNote, args=("x",), **({"every": 7 * 24 * HOUR} if "cron" not in options else {}) | options)


@pytest.fixture
def ticks(valkey):
    return Scheduler(connection=get_connection("default"))


def due(name="weekly", at=None):
    """Return when an entry is due; set it, if `at` is given."""
    if at is not None:
        get_connection("default").zadd(ALL, {scheduler.get(name).id: at})
    return get_connection("default").zscore(ALL, scheduler.get(name).id)


def history(name="weekly"):
    return [run.what for run in scheduler.get(name).runs()]


OTHERS = {
    "overlap": {"overlap": False},
    "catch_up": {"catch_up": "none"},
    "timezone of an interval": {"timezone": "Asia/Tokyo"},
    "queue": {"queue": "low"},
    "the same interval": {"every": timedelta(days=7)},
}


@pytest.mark.parametrize("options", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("offset", [-HOUR, HOUR], ids=["missed", "to come"])
def test_an_option_that_does_not_name_times_leaves_the_next_time(options, offset, valkey):
    scheduler.sync([entry()])
    at = due(at=time.time() + offset)
    scheduler.sync([entry(**options)])
    assert due() == at


def test_an_option_that_an_entry_has_lost_does_not_stay(valkey):
    scheduler.sync([entry()])
    get_connection("default").hset("rq:job:entry-weekly", mapping={"timeout": "5", "last_run": "r"})
    scheduler.sync([entry()])
    assert get_connection("default").hmget("rq:job:entry-weekly", "timeout", "last_run") == [None, b"r"]


# Times far apart: the test may run at the turn of a minute.
TIMES = {"interval": {"every": 9 * HOUR}, "cron": {"cron": "0 0 1 1 *", "every": None}}


@pytest.mark.parametrize("options", TIMES.values(), ids=TIMES)
@pytest.mark.parametrize(
    ("catch_up", "lines"),
    [("all", ["run", "run", "run"]), ("latest", ["run", "missed"]), ("none", ["missed"])],
)
def test_what_was_missed_before_a_change_of_the_times_counts_by_the_old_ones(catch_up, lines, options, ticks):
    scheduler.sync([entry(every=HOUR)])
    due(at=time.time() - 2 * HOUR - 60)
    for _ in range(2):  # a second worker starts, too
        scheduler.sync([entry(**{"every": HOUR} | options, catch_up=catch_up)])

    assert ticks.tick() == lines.count("run")
    assert history() == lines
    assert due() - time.time() > 2 * HOUR
    due(at=time.time() - 1)
    assert ticks.tick() == 1  # from now on by the new times


def test_a_second_change_keeps_what_was_missed_before_the_first(ticks):
    scheduler.sync([entry(every=HOUR, catch_up="all")])
    due(at=time.time() - 2 * HOUR - 60)
    scheduler.sync([entry(every=7 * HOUR, catch_up="all")])
    scheduler.sync([entry(every=9 * HOUR, catch_up="all")])
    assert ticks.tick() == 3
    assert due() - time.time() == pytest.approx(9 * HOUR, abs=60)


def test_changes_of_an_interval_count_from_its_last_time(valkey):
    scheduler.sync([entry()])
    at = due(at=time.time() + HOUR)
    scheduler.sync([entry(every=8 * 24 * HOUR)])
    assert due() == pytest.approx(at + 24 * HOUR, abs=0.001)
    scheduler.sync([entry()])
    assert due() == pytest.approx(at, abs=0.001)


def test_a_change_of_the_cron_or_its_zone_changes_the_next_time(valkey):
    scheduler.sync([entry(cron="0 12 * * *", timezone="UTC")])
    at = due()
    scheduler.sync([entry(cron="0 12 * * *", timezone="Asia/Kathmandu")])
    assert due() not in (at, None)
    assert (due() - at) % HOUR == 15 * 60


OFF = {
    "paused": (lambda: scheduler.pause("weekly"), lambda: scheduler.resume("weekly")),
    "disabled": (lambda: scheduler.sync([entry(enabled=False)]), lambda: scheduler.sync([entry()])),
    "removed": (lambda: scheduler.sync([]), lambda: scheduler.sync([entry()])),
    "paused and removed": (
        lambda: [scheduler.pause("weekly"), scheduler.sync([])],
        lambda: [scheduler.sync([entry()]), scheduler.resume("weekly")],
    ),
    "paused and changed": (
        lambda: [scheduler.pause("weekly"), scheduler.sync([entry(overlap=False)])],
        lambda: scheduler.resume("weekly"),
    ),
}


@pytest.mark.parametrize(("off", "on"), OFF.values(), ids=OFF)
def test_an_entry_that_leaves_the_schedule_comes_back_at_its_next_time(off, on, ticks):
    scheduler.sync([entry()])
    scheduler.run_now("weekly")
    at = due(at=time.time() + HOUR)
    off()
    assert get_connection("default").zcard(ALL) == 0
    on()
    assert due() == pytest.approx(at, abs=0.001)
    assert history() == ["run"]


@pytest.mark.parametrize("off", [OFF["paused"][0], OFF["disabled"][0]], ids=["paused", "disabled"])
def test_a_missed_run_of_an_entry_that_leaves_the_schedule_is_in_its_history(off, ticks):
    scheduler.sync([entry()])
    at = due(at=time.time() - HOUR)
    off()
    assert history() == ["missed"]
    scheduler.resume("weekly")
    scheduler.sync([entry()])
    assert due() == pytest.approx(at + 7 * 24 * HOUR, abs=0.001)


def test_what_is_removed_is_kept_a_day_with_its_pause(valkey):
    scheduler.sync([entry()])
    scheduler.pause("weekly")
    scheduler.run_now("weekly")
    scheduler.sync([])
    client = get_connection("default")
    left = [*client.scan_iter("jobs:schedule*")]
    assert {b"jobs:schedule:removed:entry-weekly", b"jobs:schedule:runs:entry-weekly"} == set(left)
    assert all(0 < client.ttl(key) <= writing.KEPT_FOR for key in left)
    assert scheduler.entries() == []

    scheduler.sync([entry()])
    assert (scheduler.get("weekly").paused, history()) == (True, ["run"])
    assert client.ttl("jobs:schedule:runs:entry-weekly") == -1
    assert not client.exists("jobs:schedule:removed:entry-weekly")


# --- ids of release 0.1 ---------------------------------------------------------------------------


def store_under_its_old_id(old, from_file):
    """Store an entry as release 0.1 did, with a run in its history."""
    client = get_connection("default")
    fields = {"name": old.name, "cron": None, "every": 60.0, "timezone": None, "enabled": True, "catch_up": "latest"}
    fields |= {"overlap": True, "from_file": from_file}
    job = old.job(writing.moment(0))
    old_id = f"entry-{old.slug_of_release_0_1}"
    record = {"entry": orjson.dumps(fields), "data": job.payload, "origin": "default", "status": "scheduled"}
    client.sadd("jobs:schedule", old_id)
    client.hset(f"rq:job:{old_id}", mapping=record | {"last_run": "r", "created_at": "2026-10-26T04:22:00.874493Z"})
    client.zadd(ALL, {old_id: time.time() + 30})
    client.lpush(f"jobs:schedule:runs:{old_id}", orjson.dumps({"what": "run", "id": "r", "at": 1.0}))
    client.hset(f"jobs:schedule:ended:{old_id}", "r", "finished")
    return old_id, client.zscore(ALL, old_id)


@pytest.mark.parametrize("from_file", [True, False])
def test_an_entry_under_its_old_id_gets_its_new_one_with_its_history(from_file, ticks):
    old = entry("план 1", every=60)
    old_id, at = store_under_its_old_id(old, from_file)
    assert old_id == "entry-1"
    assert scheduler.get("план 1").id == old_id  # before any worker of this release has started
    with pytest.raises(ScheduleError, match="no recurring entry"):
        scheduler.get("отчёт 1")

    scheduler.sync([entry("отчёт 1"), *([old] if from_file else [])])

    found = scheduler.get("план 1")
    assert found.id == "entry-" + old.slug
    assert [(run.job_id, run.outcome) for run in found.runs()] == [("r", "finished")]
    assert due("план 1") == pytest.approx(at, abs=0.001)
    assert scheduler.get("отчёт 1").runs() == []
    assert [each.name for each in scheduler.entries()] == ["отчёт 1", "план 1"]
    client = get_connection("default")
    assert client.zcard(ALL) == 2
    assert list(client.scan_iter("*entry-1")) == []


def test_an_entry_that_a_worker_of_release_0_1_stores_again_is_not_run_twice(ticks):
    again = entry("mail: a", every=60)
    scheduler.sync([again])
    scheduler.run_now("mail: a")
    store_under_its_old_id(again, True)
    scheduler.sync([again])
    assert [each.id for each in scheduler.entries()] == ["entry-" + again.slug]
    assert (get_connection("default").zcard(ALL), history("mail: a")) == (1, ["run"])


def test_adding_an_entry_again_takes_its_old_id_over(ticks):
    added = entry("mail: a", every=60)
    store_under_its_old_id(added, False)
    assert scheduler.add(added).id == "entry-" + added.slug
    assert len(scheduler.entries()) == 1
    assert history("mail: a") == ["run"]
