"""Listing jobs: every state, filters, pages, unreadable and deleted jobs; without reading a whole queue."""

import time
import zlib
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction

from jobs import control
from jobs.broker.connections import get_connection
from jobs.inspection import JobQuery, counts
from jobs.job import JobState
from tests.sample.commands.limited import OneAtATime
from tests.sample.commands.notes import Fail, KeepSecret, WriteNote
from tests.sample.commands.trouble import Again, Ruled, TroubleTwice

pytestmark = pytest.mark.django_db(transaction=True)


def ids(state, **filters):
    return [row.id for row in JobQuery(state=JobState(state), **filters).page().rows]


@pytest.fixture
def one_of_each(worker):
    """A job in each state, by the state's name."""
    finished, dead, discarded = WriteNote.defer("x"), Fail.defer("bad luck"), Ruled.defer("hopeless")
    retrying = TroubleTwice.defer(times=1)
    worker.run()
    jobs = {"finished": finished, "dead": dead, "discarded": discarded, "retrying": retrying}
    worker.client.zadd("jobs:workers", {"inline": time.time()})
    worker.client.sadd("jobs:slots:sample.OneAtATime:concurrency:=", "another:inline.99")
    jobs["limited"] = OneAtATime.defer()
    worker.fetch._step(claims=True)
    jobs["running"] = WriteNote.defer("running")
    worker.fetch._step(claims=True)
    jobs["scheduled"] = WriteNote.defer("later", wait=60)
    jobs["waiting"] = WriteNote.defer("waiting", prereq_jobs=[jobs["scheduled"]])
    jobs["blocked"] = WriteNote.defer("blocked", prereq_jobs=[dead])
    jobs["cancelled"] = WriteNote.defer("cancelled")
    control.cancel(jobs["cancelled"])
    jobs["queued"] = WriteNote.defer("queued", queue="low")
    with transaction.atomic():
        jobs["unsent"] = WriteNote.defer("unsent", durable=True)
        connection.run_on_commit.clear()  # as if the process ended there
    return jobs


@pytest.mark.parametrize("state", JobState)
def test_each_state_lists_its_jobs_and_counts_them(state, one_of_each):
    expected = [one_of_each[state].id]
    if state == "waiting":
        expected = sorted([*expected, one_of_each["blocked"].id])  # who is blocked waits, too
    assert sorted(ids(state)) == expected
    assert str(JobQuery(state=state).count()) == str(len(expected))


def test_all_states_are_counted_at_once(one_of_each):
    assert {state: str(count) for state, count in counts().items()} == {**dict.fromkeys(JobState, "1"), "waiting": "2"}


def test_ids_without_a_jobs_record_are_not_counted(one_of_each):
    client = get_connection("default")
    for job in (one_of_each["scheduled"], one_of_each["discarded"]):
        client.delete(job.key)
    client.set(one_of_each["discarded"].key, "no hash")
    found = counts()
    assert (str(found[JobState.SCHEDULED]), str(found[JobState.RETRYING])) == ("0", "1")
    assert (str(found[JobState.DISCARDED]), str(found[JobState.CANCELLED])) == ("0", "1")


def test_a_row_has_the_columns_of_a_list(one_of_each):
    (dead,) = JobQuery(state=JobState.DEAD).page().rows
    assert (dead.command, dead.queue, dead.state) == ("sample.Fail", "default", "dead")
    assert dead.description == "sample.Fail('bad luck')"
    assert (dead.reason, dead.error) == ("RuntimeError: bad luck", "RuntimeError")
    assert dead.attempts == 1
    assert datetime.now(UTC) - dead.at < timedelta(seconds=10)
    assert dead.job.state == "dead"
    (retrying,) = JobQuery(state=JobState.RETRYING).page().rows
    assert timedelta(seconds=10) < retrying.at - datetime.now(UTC) < timedelta(seconds=30)


def test_filters(worker):
    jobs = [Fail.defer("a pear"), Fail.defer("an apple", queue="low"), TroubleTwice.defer("flaky")]
    get_connection("default").hset(jobs[2].key, mapping={"progress": b'{"failures": {"": 2}}', "more": 1})
    worker.run()

    assert set(ids("dead")) == {job.id for job in jobs}
    assert ids("dead", queue="low") == [jobs[1].id]
    assert ids("dead", command="sample.TroubleTwice") == [jobs[2].id]
    assert ids("dead", error="FlakyError") == [jobs[2].id]
    assert ids("dead", text="APPLE") == [jobs[1].id]
    assert ids("dead", text=jobs[0].id[:8]) == [jobs[0].id]
    soon = datetime.now(UTC) + timedelta(minutes=1)
    assert ids("dead", since=soon) == []
    assert len(ids("dead", until=soon, since=soon - timedelta(minutes=2))) == 3
    assert str(JobQuery(state=JobState.DEAD, error="RuntimeError").count()) == "2"


def test_each_attempt_counts_once_in_any_state(worker):
    retrying, requeued, waits = TroubleTwice.defer(), Again.defer(), WriteNote.defer("later", wait=60)
    worker.run()

    attempts = {
        row.id: row.attempts
        for state in (JobState.RETRYING, JobState.SCHEDULED)
        for row in JobQuery(state=state).page().rows
    }
    assert attempts == {retrying.id: 1, requeued.id: 1, waits.id: 0}


def test_a_job_that_came_through_has_no_reason_any_more(worker):
    TroubleTwice.defer("flaky", 1)
    worker.run()
    assert JobQuery(state=JobState.RETRYING).page().rows[0].reason == "FlakyError: as planned"
    worker.hurry().run()
    assert JobQuery(state=JobState.FINISHED).page().rows[0].reason == ""


def test_private_arguments_are_neither_shown_nor_found():
    KeepSecret.defer("hunter2")
    (row,) = JobQuery(state=JobState.QUEUED).page().rows
    assert row.description == "sample.KeepSecret(...)"
    assert ids("queued", text="hunter2") == []


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("state", ["queued", "scheduled"])
def test_pages_go_through_everything_once_in_order(state, newest_first):
    wait = 60 if state == "scheduled" else None
    jobs = [
        job
        for queue in ("critical", "default")
        for job in WriteNote.defer_many([(str(n),) for n in range(230)], queue=queue, wait=wait, spread=wait and 9)
    ]
    query = JobQuery(state=JobState(state), newest_first=newest_first)
    found, cursor, pages = [], "", 0
    while True:
        page = query.page(cursor, size=50)
        found += [row.id for row in page.rows]
        cursor, pages = page.next_cursor, pages + 1
        if not cursor:
            break
    assert pages <= 12
    assert len(found) == len(set(found)) == 460
    if state == "queued" and not newest_first:
        assert found == [job.id for job in jobs]
    if state == "scheduled":
        times = [get_connection("default").zscore(f"rq:scheduled:{q}", i) for q, i in _queues(jobs, found)]
        assert times == sorted(times, reverse=newest_first)


def _queues(jobs, found):
    queue_of = {job.id: job.origin for job in jobs}
    return [(queue_of[job_id], job_id) for job_id in found]


def test_a_search_examines_a_limited_number_and_returns_it():
    WriteNote.defer_many([(str(n),) for n in range(1_500)])
    query = JobQuery(state=JobState.QUEUED, text="('1499')")
    first = query.page()
    assert (first.rows, first.looked_at) == ([], 1_000)
    second = query.page(first.next_cursor)
    assert (len(second.rows), second.looked_at, second.next_cursor) == (1, 500, "")


def test_counting_jobs_that_must_be_read_is_bounded(monkeypatch):
    monkeypatch.setattr("jobs.inspection.query.COUNTED", 100)
    WriteNote.defer_many([("x",)] * 150, wait=60)
    assert str(JobQuery(state=JobState.SCHEDULED).count()) == "100+"
    assert str(JobQuery(state=JobState.RETRYING).count()) == "0+"
    monkeypatch.setattr("jobs.inspection.query.COUNTED", 150)
    assert str(JobQuery(state=JobState.SCHEDULED).count()) == "150"
    assert str(JobQuery(state=JobState.QUEUED).count()) == "0"


def break_data(job, client):
    client.hset(job.key, "data", b"\xff\xfe")


def break_key(job, client):
    client.delete(job.key)
    client.set(job.key, "no hash")


def grow(job, client):
    client.hset(job.key, "data", b"x" * 14_000_000)


def inflate(job, client):
    client.hset(job.key, "data", zlib.compress(b'["' + b"a" * 20_000_000 + b'",null,["x"],{}]', 9))


@pytest.mark.parametrize(
    ("harm", "shown"),
    [
        (break_data, "(unreadable job)"),
        (inflate, "(a payload of more than 1,048,576 bytes)"),
        (grow, "(a payload of 14,000,000 bytes)"),
        (break_key, "(unreadable job)"),
    ],
)
def test_an_unreadable_job_is_a_row_that_says_so(harm, shown, worker):
    job, other = WriteNote.defer("x"), WriteNote.defer("y")
    harm(job, get_connection("default"))
    rows = list(JobQuery(state=JobState.QUEUED).all())
    assert [row.id for row in rows][-1] == other.id
    if harm is not break_key:
        assert rows[0].description == shown


def test_a_deleted_job_is_left_out():
    job, other = WriteNote.defer("x"), WriteNote.defer("y")
    get_connection("default").delete(job.key)
    assert ids("queued") == [other.id]


@pytest.mark.parametrize("cursor", ["nonsense!", "e30=!", "WzFd", "eyJhIjotMX0"])
def test_an_invalid_cursor_is_refused(cursor):
    with pytest.raises(ValueError, match="Invalid cursor"):
        JobQuery(state=JobState.QUEUED).page(cursor)


def test_a_page_costs_a_few_round_trips(monkeypatch):
    WriteNote.defer_many([("x",)] * 1_000, wait=60)
    client = get_connection("default")
    trips = []
    execute, pipelined = type(client).execute_command, type(client.pipeline()).execute
    monkeypatch.setattr(type(client), "execute_command", lambda *a, **k: (trips.append(a[1]), execute(*a, **k))[1])
    monkeypatch.setattr(
        type(client.pipeline()), "execute", lambda *a, **k: (trips.append("pipeline"), pipelined(*a, **k))[1]
    )
    JobQuery(state=JobState.RETRYING).page()
    assert len(trips) <= 15


def test_again_is_scheduled_not_retrying(worker):
    job = Again.defer()
    worker.run()
    assert ids("scheduled") == [job.id]
    assert ids("retrying") == []
