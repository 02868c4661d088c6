"""The next time of an entry lies far beyond its own times: the server's clock was wrong when it was written."""

import time
from datetime import datetime

import pytest

from jobs import scheduler
from jobs.broker.connections import get_connection
from jobs.doctor import schedule
from jobs.recurring import astray
from jobs.scheduler import Entry, Scheduler
from tests.sample.commands.notes import WriteNote

YEAR = 365 * 86_400.0
SCHEDULED = "rq:scheduler:scheduled_jobs"


def add(name, **times):
    scheduler.add(Entry(name, WriteNote, args=("x",), **times))
    return scheduler.get(name).id


def next_in(entry_id):
    return get_connection("default").zscore(SCHEDULED, entry_id) - time.time()


def set_next(entry_id, seconds):
    get_connection("default").zadd(SCHEDULED, {entry_id: time.time() + seconds})


def named_by_the_doctor():
    return [found.what for found in schedule.findings() if "far beyond" in found.what]


@pytest.mark.parametrize("times", [{"every": 60}, {"cron": "* * * * *"}])
def test_it_runs_again_and_the_doctor_names_it_until_then(times):
    entry_id = add("each minute", **times)
    set_next(entry_id, YEAR)
    (what,) = named_by_the_doctor()
    assert what.startswith("The next time of the recurring entry 'each minute' is ")

    Scheduler(connection=get_connection("default")).tick()

    assert -30 < next_in(entry_id) <= 61  # the next minute may have begun
    assert not named_by_the_doctor()


def test_a_next_time_that_may_be_right_stays():
    yearly, minutely = add("yearly", cron="0 0 1 1 *"), add("minutely", every=60)
    set_next(minutely, 43_200)  # a person may put it off
    plain = Scheduler(connection=get_connection("default")).schedule(
        datetime.fromtimestamp(time.time() + YEAR), print, interval=60
    )
    before = get_connection("default").zrange(SCHEDULED, 0, -1, withscores=True)
    assert {yearly, minutely, plain.id} <= {member.decode() for member, _ in before}

    Scheduler(connection=get_connection("default")).tick()

    assert get_connection("default").zrange(SCHEDULED, 0, -1, withscores=True) == before
    assert not named_by_the_doctor()


def test_all_are_looked_at_in_slices_and_one_that_cannot_be_read_stops_no_other(monkeypatch):
    monkeypatch.setattr(astray, "SLICE", 2)
    client, ids = get_connection("default"), [add(f"entry {number}", every=60) for number in range(3)]
    for number, entry_id in enumerate(ids):
        set_next(entry_id, YEAR - number)
    client.hset(f"rq:job:{ids[0]}", "entry", b"{")

    first = astray.bring_back(client, 0)
    assert (first, next_in(ids[1]) <= 61, next_in(ids[2]) > 61) == (2, True, True)
    assert astray.bring_back(client, 1) == 0
    assert next_in(ids[2]) <= 61
