"""Searches: how they are parsed, what they refuse, and which jobs they find."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from jobs import runtime
from jobs.errors import UnknownQueueError
from jobs.inspection import JobQuery, everywhere
from jobs.inspection.matching import contains
from jobs.inspection.search import Search, SearchError, Term, moment_of
from jobs.job import JobState
from tests.jobs.dashboard.pages import count_trips
from tests.sample.commands.kept import Keep
from tests.sample.commands.notes import Fail, KeepSecret, WriteNote

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


@pytest.fixture
def noon(monkeypatch):
    monkeypatch.setattr(runtime, "now", NOW.timestamp)


def test_a_search_is_parsed_into_its_terms():
    text = 'args.user:7 state:dead queue:low command:WriteNote error:KeyError since:1h "two words" users.User:4'
    assert Search.parse(text).terms == (
        Term("args", "7", "user"),
        Term("state", "dead"),
        Term("queue", "low"),
        Term("command", "WriteNote"),
        Term("error", "KeyError"),
        Term("since", "1h"),
        Term("text", "two words"),
        Term("text", "users.User:4"),
    )
    assert str(Search.parse(text)) == text
    assert Search.parse(text).command == "sample.WriteNote"


@pytest.mark.parametrize(
    "text",
    [
        'text:x args.a:"" args:"b c" state:dead state:retrying',
        '"state:dead" "a \\"quoted\\" word" back\\slash "two \\\\ back slashes" force=True TimeoutError: 12:30',
        "until:2026-01-31T12:00+02:00 order:oldest id:abc fingerprint:0123",
    ],
)
def test_what_is_written_again_means_the_same(text):
    found = Search.parse(text)
    assert Search.parse(str(found)) == found


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("since=yesterday", "'since=yesterday' is not understood. Write since:yesterday."),
        ("sinc=yesterday", "Did you mean since:yesterday?"),
        ("since:whenever", "'whenever' is not a time. Write a span such as 30m"),
        ("since:99999999999d", "is not a time"),
        ("until:999999w", "is not a time"),
        ("since:2026-13-45", "'2026-13-45' is not a time"),
        ("state:ded", "There is no state 'ded'. Did you mean 'dead'? The states are: queued,"),
        ("queue:lo", "There is no queue 'lo'. Did you mean 'low'? The queues are: critical,"),
        ("command:WriteNot", "No command is called 'WriteNot'. Did you mean WriteNote?"),
        ("comand:WriteNote", "There is no filter 'comand'. Did you mean 'command'? To search for this text, quote it"),
        ("arg.user:7", "There is no filter 'arg.user'."),
        ("queue.name:low", "There is no filter 'queue.name'. Write queue:low."),
        ("http://x", 'quote it: "http://x"'),
        ("order:up", "There is no order 'up'."),
        ("queue:low queue:default", "queue is given 2 times: low, default. Give it once."),
        ("error:", "error: has no value."),
        ('"open', "A quotation mark is not closed"),
        ("x" * 2_001, "2,001 characters"),
    ],
)
def test_what_is_not_understood_is_refused_with_what_to_write(text, sentence):
    with pytest.raises(SearchError, match="^") as refused:
        Search.parse(text)
    assert sentence in str(refused.value)


def test_filters_of_their_own_are_terms_too():
    assert str(Search.of({"q": "args.n:1", "queue": "low", "text": "a b", "order": "", "cursor": "x"})) == (
        'args.n:1 queue:low "a b"'
    )
    assert Search.of({"q": "queue:low", "queue": "low"}).values("queue") == ("low",)
    with pytest.raises(SearchError, match="queue is given 2 times"):
        Search.of({"q": "queue:low", "queue": "default"})
    with pytest.raises(UnknownQueueError):
        Search.of({"queue": "urgent"})
    with pytest.raises(SearchError, match="is not a time"):
        Search.of({"since": "never"})


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("30m", NOW - timedelta(minutes=30)),
        ("30min", NOW - timedelta(minutes=30)),
        ("1h", NOW - timedelta(hours=1)),
        ("2d", NOW - timedelta(days=2)),
        ("1w", NOW - timedelta(days=7)),
        ("2026-01-31T12:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_times(text, time, noon):
    assert moment_of(text) == time


def test_days_begin_at_midnight_in_the_zone_of_the_reader(noon):
    with timezone.override("Asia/Tokyo"):
        assert moment_of("today").isoformat() == "2026-11-29T00:00:00+09:00"
        assert moment_of("yesterday").isoformat() == "2026-11-28T00:00:00+09:00"
        assert moment_of("2026-01-31").isoformat() == "2026-01-31T00:00:00+09:00"


def test_a_search_can_be_frozen_so_that_it_means_the_same_later(noon):
    frozen = Search.parse("since:1h error:KeyError").frozen()
    assert str(frozen) == "since:2026-11-29T11:00:00+00:00 error:KeyError"


@pytest.mark.parametrize(
    ("text", "wanted", "is_in"),
    [
        ("users.User:40", "users.User:4", False),
        ("users.User:4, users.User:40", "users.User:4", True),
        ("users.User:40, users.User:4", "users.User:4", True),
        ("call(17)", "7", False),
        ("call(7)", "7", True),
        ("Report 3 of", "repo", True),
        ("number 4242 went", "number 4242", True),
        ("anything", "", True),
    ],
)
def test_numbers_are_matched_whole(text, wanted, is_in):
    assert contains(text, wanted) is is_in


def found(search, state="queued"):
    return {row.description for row in JobQuery.of(state, {"q": search}).page().rows}


@pytest.mark.django_db(transaction=True)
def test_arguments_are_matched_exactly(django_user_model):
    people = [
        django_user_model.objects.create_user(f"{n}@x.example", "x" * 12, pk=pk) for n, pk in enumerate((4, 40, 400))
    ]
    for person in people:
        Keep.defer(person)
    Keep.defer("4")
    Keep.defer(4)
    Keep.defer(True)
    assert found("args.value:users.User:4") == {"sample.Keep(users.User:4)"}
    assert found("users.User:4") == {"sample.Keep(users.User:4)"}
    assert (
        found("args.value:4")
        == found("args:4")
        == {
            "sample.Keep(users.User:4)",
            "sample.Keep('4')",
            "sample.Keep(4)",
        }
    )
    assert found("args.value:true") == {"sample.Keep(True)"}
    assert found("args.other:4") == found("args.value:use") == set()


@pytest.mark.django_db(transaction=True)
def test_hidden_arguments_are_not_found(settings):
    KeepSecret.defer("hunter2")
    WriteNote.defer("hunter2")
    assert found("args:hunter2") == {"sample.WriteNote('hunter2')"}
    settings.JOBS = {**settings.JOBS, "FILTERED_FIELDS": ("text",)}
    assert found("args:hunter2") == found("args.text:[filtered]") == set()


@pytest.mark.django_db(transaction=True)
def test_all_states_are_searched_at_once(worker, monkeypatch):
    for _ in range(3):
        Fail.defer("pear")
    Fail.defer("apple")
    WriteNote.defer("pear")
    worker.run()
    WriteNote.defer("pear")
    waiting = WriteNote.defer("pear", wait=60)
    WriteNote.defer("pear", prereq_jobs=[waiting])
    made = count_trips(monkeypatch)
    result = everywhere.find_all(Search.parse("pear"), 2_000)
    assert len(made) <= 6
    counted = {state.value: count.value for state, count in result.counts.items() if count.value}
    assert counted == {"queued": 1, "scheduled": 1, "waiting": 1, "finished": 1, "dead": 3}
    assert len(result.rows) == 7
    assert [row.at for row in result.rows] == sorted((row.at for row in result.rows), reverse=True)
    assert len(everywhere.find_all(Search.parse("pear state:dead state:queued"), 2_000).rows) == 4
    (named,) = everywhere.find_all(Search.parse(f"id:{waiting.id}"), 2_000).rows
    assert named.id == waiting.id


@pytest.mark.django_db(transaction=True)
def test_what_was_not_looked_at_is_said(worker):
    Fail.defer_many([("x",)] * 40)
    worker.run()
    result = everywhere.find_all(Search.parse("error:RuntimeError"), 70)
    assert result.counts[JobState.DEAD].more
    assert result.looked_at < result.total == 40
    assert str(everywhere.counts(Search.parse(""), 70)[JobState.DEAD]) == "40"
