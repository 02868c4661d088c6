"""When entries are due: cron on a wall clock that jumps, intervals, missed times, and invalid entries."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from jobs.errors import ScheduleError
from jobs.recurring.entry import Entry, listed
from tests.sample.commands.notes import WriteNote


def times(entry, after, count):
    """Return the next times after a moment, on the wall clock of the entry's zone, with the offset."""
    moment = datetime.fromisoformat(after).replace(tzinfo=UTC)
    found = []
    for _ in range(count):
        moment = entry.next_after(moment)
        found.append(moment.astimezone(entry.zone).strftime("%m-%d %H:%M%z"))
    return found


def cron(expression, zone="Europe/Berlin"):
    return Entry("x", WriteNote, args=("x",), cron=expression, timezone=zone)


JUMPS = {
    "a time that is skipped comes an hour later": (
        cron("30 2 * * *"),
        "2026-03-27T12:00",
        ["03-28 02:30+0100", "03-29 03:30+0200", "03-30 02:30+0200"],
    ),
    "a time that comes twice counts the first time": (
        cron("30 2 * * *"),
        "2026-10-23T12:00",
        ["10-24 02:30+0200", "10-25 02:30+0200", "10-26 02:30+0100"],
    ),
    "every hour goes on when the clock is set back": (
        cron("0 * * * *"),
        "2026-10-24T22:30",
        ["10-25 01:00+0200", "10-25 02:00+0200", "10-25 02:00+0100", "10-25 03:00+0100"],
    ),
    "every hour goes on when the clock is set on": (
        cron("@hourly"),
        "2026-03-28T23:30",
        ["03-29 01:00+0100", "03-29 03:00+0200", "03-29 04:00+0200"],
    ),
    "a shift of half an hour: skipped": (
        cron("15 2 * * *", "Australia/Lord_Howe"),
        "2026-10-02T12:00",
        ["10-03 02:15+1030", "10-04 02:45+1100", "10-05 02:15+1100"],
    ),
    "a shift of half an hour: twice": (
        cron("45 1 * * *", "Australia/Lord_Howe"),
        "2026-04-03T12:00",
        ["04-04 01:45+1100", "04-05 01:45+1100", "04-06 01:45+1030"],
    ),
    "every half hour over a shift of half an hour": (
        cron("*/30 * * * *", "Australia/Lord_Howe"),
        "2026-04-04T13:40",
        ["04-05 01:00+1100", "04-05 01:30+1100", "04-05 01:30+1030", "04-05 02:00+1030"],
    ),
    "a zone that never jumps": (cron("0 5 * * *", "Asia/Kolkata"), "2026-03-28T12:00", ["03-29 05:00+0530"]),
    "a day that a zone has left out": (
        cron("30 2 * * *", "Pacific/Apia"),
        "2011-12-29T00:00",
        ["12-29 02:30-1000", "12-31 02:30+1400", "01-01 02:30+1400"],
    ),
}


@pytest.mark.parametrize(("entry", "after", "expected"), JUMPS.values(), ids=JUMPS)
def test_each_time_of_day_occurs_once(entry, after, expected):
    assert times(entry, after, len(expected)) == expected


@pytest.mark.parametrize("weeks", [("03-26", "04-09"), ("08-30", "09-10"), ("10-01", "10-08"), ("10-20", "10-28")])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "Australia/Lord_Howe", "America/Santiago"])
@pytest.mark.parametrize("expression", ["30 2 * * *", "*/30 * * * *", "5 */3 * * *", "0 0 * * 0"])
def test_due_by_returns_the_same_times_as_next_after(zone, expression, weeks):
    entry = cron(expression, zone)
    start, end = (datetime.fromisoformat(f"2026-{day}").replace(tzinfo=UTC) for day in weeks)
    first = moment = entry.next_after(start)
    walked = []
    while moment <= end:
        walked.append(moment)
        moment = entry.next_after(moment)

    assert entry.due_by(first, end, 100_000) == (walked, moment)
    assert entry.due_by(first, end, 3)[0] == walked[-3:]
    assert len(set(walked)) == len(walked)


def test_the_default_zone_is_the_projects(settings):
    settings.TIME_ZONE = "Asia/Kolkata"
    assert Entry("x", WriteNote, cron="0 5 * * *").zone == ZoneInfo("Asia/Kolkata")


def test_intervals_count_from_the_last_time():
    entry = Entry("x", WriteNote, every=timedelta(minutes=10))
    start = datetime(2026, 1, 1, tzinfo=UTC)
    found, following = entry.due_by(start, start + timedelta(minutes=35), 10)

    assert [(time - start).seconds // 60 for time in found] == [0, 10, 20, 30]
    assert following == start + timedelta(minutes=40)
    assert entry.due_by(start, start + timedelta(minutes=35), 1)[0] == found[-1:]


def test_a_time_that_a_person_has_set_counts():
    at = datetime(2026, 1, 1, 7, 7, 7, tzinfo=UTC)
    assert cron("0 5 * * *").due_by(at, at, 1)[0] == [at]


def test_a_run_is_named_by_the_entry_and_the_time():
    entry = Entry("clean up: über all!", WriteNote, cron="@daily")
    at = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    assert entry.run_id(at) == "clean-up-ber-all-3c28c71c66-20261025T003000Z"
    assert Entry("clean up", WriteNote, cron="@daily").run_id(at) == "clean-up-20261025T003000Z"


NAMES = [
    "отчёт 1",
    "план 1",
    "1",
    "für Müller",
    "für Möller",
    "mail: a",
    "mail, a",
    "mail a",
    "mail-a",
    "mail  a",
    " mail a",
]


def test_no_two_names_have_the_same_slug():
    slugs = [
        Entry(name, WriteNote).slug for name in [*NAMES, "日報", "週報", "отчёт", "clean up", "clean_up", "clean-up"]
    ]
    assert len(set(slugs)) == len(slugs)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", slug) for slug in slugs)


def test_any_letter_makes_a_name():
    for name in ("日報", "отчёт", "٣"):
        assert list(Entry(name, WriteNote, args=("x",), every=60).problems()) == []


class Raising(str):
    def __getattribute__(self, name):
        raise ZeroDivisionError


PROBLEMS = {
    "no name": (Entry("!", WriteNote, args=("x",), cron="@daily"), "has no letter"),
    "a lone surrogate": (Entry("a\ud800", WriteNote, args=("x",), cron="@daily"), "has a lone surrogate"),
    "an unknown command": (Entry("x", "sample.Gone", cron="@daily"), "Unknown command: 'sample.Gone'"),
    "arguments that do not fit": (Entry("x", "sample.WriteNote", cron="@daily"), "missing a required argument: 'text'"),
    "an argument that cannot be sent": (Entry("x", WriteNote, args=(object(),), cron="@daily"), "cannot be sent"),
    "an unknown queue": (Entry("x", WriteNote, args=("x",), cron="@daily", queue="urgent"), "Unknown queue: 'urgent'"),
    "neither cron nor every": (Entry("x", WriteNote, args=("x",)), "either cron= or every="),
    "both": (Entry("x", WriteNote, args=("x",), cron="@daily", every=60), "either cron= or every="),
    "a bad cron": (cron("61 * * * *"), "cron='61 * * * *' is not a cron expression"),
    "six fields": (cron("* * * * * *"), "is not a cron expression"),
    "random times": (cron("R R * * *"), "has random times (R)"),
    "a random minute of some": (cron("r(0-29) 3 * * *"), "has random times (R)"),
    "a random step": (cron("0 r/2 * * *"), "has random times (R)"),
    "a random item": (cron("5,R * * * *"), "has random times (R)"),
    "an unknown alias": (cron("@fortnightly"), "is not a cron expression"),
    "no interval": (Entry("x", WriteNote, args=("x",), every=0), "every=0 is impossible"),
    "an unknown zone": (cron("@daily", "Mars/Olympus"), "timezone='Mars/Olympus' is unknown"),
    "a date that never comes": (cron("0 0 30 2 *"), "cron='0 0 30 2 *' never comes"),
    "dates that never come": (cron("0 0 31 4,6,9,11 *"), "never comes"),
    "a zone that is no name": (cron("@daily", ZoneInfo("Europe/Berlin")), "is unknown. Give an IANA name"),
    "a zone without a name": (cron("@daily", ""), "timezone='' is unknown"),
    "a folder of zones": (cron("@daily", "Europe"), "timezone='Europe' is unknown"),
    "no command": (Entry("x", None, every=60), "command=None is no command"),
    "a function": (Entry("x", print, every=60), "is no command"),
    "another class": (Entry("x", dict, every=60), "is no command"),
    "no arguments": (Entry("x", WriteNote, args=None, every=60), "None"),
    "no named arguments": (Entry("x", WriteNote, kwargs=None, every=60), "None"),
    "a queue that is no name": (Entry("x", WriteNote, args=("x",), every=60, queue=5), "Unknown queue: 5"),
    "a name that is not a text": (Entry(None, WriteNote, args=("x",), every=60), "The name None is not a text"),
    "a text for an interval": (Entry("x", WriteNote, args=("x",), every="5m"), "every='5m' is impossible"),
    "an endless interval": (Entry("x", WriteNote, args=("x",), every=timedelta.max), "is impossible"),
    "a list for catch_up": (Entry("x", WriteNote, args=("x",), every=60, catch_up=[]), "catch_up=[] is unknown"),
    "what raises": (Entry("x", WriteNote, args=(Raising(),), every=60), "It cannot be understood: ZeroDivisionError"),
    "an unknown catch_up": (Entry("x", WriteNote, args=("x",), cron="@daily", catch_up="some"), "catch_up='some'"),
}


@pytest.mark.parametrize(("entry", "problem"), PROBLEMS.values(), ids=PROBLEMS)
def test_an_invalid_entry_names_its_problem(entry, problem):
    assert any(problem in found for found in entry.problems())
    with pytest.raises(ScheduleError, match="cannot work"):
        entry.check()


def test_a_valid_entry_has_no_problem():
    assert list(cron("0 3 * MAR,apr FRI").problems()) == []
    assert list(cron("*/5 8-18 * * 1-5").problems()) == []
    assert list(Entry("x", "sample.WriteNote", kwargs={"text": "x"}, every=timedelta(hours=1)).problems()) == []


GOOD = [Entry("x", WriteNote, args=("x",), cron="@daily")]
NO_LIST = "nothing"


def test_the_projects_list_is_read_by_its_path(settings):
    settings.JOBS = {**settings.JOBS, "SCHEDULE": f"{__name__}.GOOD"}
    assert listed() == GOOD
    for path, problem in [(f"{__name__}.NO_LIST", "must be a list"), ("config.nowhere.X", "cannot be imported")]:
        settings.JOBS = {**settings.JOBS, "SCHEDULE": path}
        with pytest.raises(ScheduleError, match=problem):
            listed()
