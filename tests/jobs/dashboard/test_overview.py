"""The overview's sentences and figures, from what the commits, the samples and the workers' beats say."""

import signal
import time

import pytest
from django.urls import reverse
from redis.connection import AbstractConnection
from redis.exceptions import BusyLoadingError, ResponseError

from jobs import bulk, queues, scheduler
from jobs.broker.connections import get_connection
from jobs.dashboard import recurring
from jobs.dashboard.navigation import below
from jobs.dashboard.now import PACE
from jobs.errors import ScheduleError
from jobs.inspection import Count, samples
from jobs.scheduler import Entry
from tests.jobs.dashboard.pages import OVERVIEW, text, url
from tests.sample.commands.notes import Fail, WriteNote

pytestmark = pytest.mark.django_db(transaction=True)

TURN = "rq:scheduler_lock"


@pytest.mark.parametrize("name", ["low", "mails/eu", "50 %", "..", "", "~a:b@c,d;e", "日報", "a\\b", "new\nline"])
def test_an_address_below_the_overview_is_what_reverse_gives(name):
    assert below(reverse(OVERVIEW), "queue", name, "pause") == reverse("admin:jobs_queue_pause", args=[name])


def beat(name="w", **fields):
    client = get_connection("default")
    client.sadd("rq:workers", f"rq:worker:{name}")
    served = {"queues": "critical,default,mailers,background,low", "state": "idle", "threads": 2, "running": 0}
    client.hset(f"rq:worker:{name}", mapping=served | fields)


def count(minutes_ago, label, number):
    get_connection("default").hincrby(f"jobs:counts:{int(time.time()) // 60 - minutes_ago}", label, number)


def overview(client, **query):
    page = client.get(reverse(OVERVIEW), query)
    assert page.status_code == 200
    return page.context


def test_all_is_well(admin_client):
    beat()
    assert overview(admin_client)["warnings"] == []
    assert "All is well." in text(admin_client, reverse(OVERVIEW))


def test_dead_jobs_that_grow_and_those_that_do_not(admin_client, worker):
    beat()
    Fail.defer_many([("x",)] * 2)
    worker.run()
    told = [
        "The number of dead jobs is growing: 2 have died in the last hour. 2 dead jobs wait for a person to decide."
    ]
    assert overview(admin_client)["warnings"] == told
    assert overview(admin_client, span="day")["warnings"] == told
    client = get_connection("default")
    for minute in client.keys("jobs:counts:*"):
        client.delete(minute)
    count(61, "default|sample.Fail|dead|3", 2)
    assert overview(admin_client)["warnings"] == ["2 dead jobs wait for a person to decide."]


def test_nobody_has_the_schedulers_turn(admin_client):
    beat()
    assert overview(admin_client)["warnings"] == []  # nothing recurs
    scheduler.add(Entry("hourly", WriteNote, args=("x",), cron="@hourly"))
    told = "No process holds the scheduler's lease: recurring entries do not run."
    assert overview(admin_client)["warnings"] == [told]
    get_connection("default").set(TURN, "somebody", px=5_000)
    assert overview(admin_client)["warnings"] == []


def test_a_queue_that_nobody_serves_and_one_that_is_behind(admin_client):
    beat(queues="critical,default,mailers,background")
    WriteNote.defer("x", queue="low")
    job = WriteNote.defer("x")
    get_connection("default").hset(job.key, "enqueued_at", "2026-01-01T00:00:00.000000Z")
    shown = overview(admin_client)
    (behind,) = shown["problems"]
    assert behind.headline.startswith("default is behind: its first job has waited ")
    (unserved,) = shown["warnings"]
    assert unserved == "No worker serves the queue low: its 1 job waits."


def test_what_is_enqueued_a_minute_is_what_has_gone_and_by_how_much_more_waits(admin_client):
    (row,) = [row for row in overview(admin_client)["rows"] if row.name == "default"]
    assert row.enqueued_a_minute is None  # there is no sample yet
    minute = int(time.time()) // 60 - PACE
    get_connection("default").hset(f"jobs:samples:{minute}", mapping={"default": "10 0.5"})
    WriteNote.defer_many([("x",)] * 30)
    count(1, "default|sample.WriteNote|finished|3", 80)
    (row,) = [row for row in overview(admin_client)["rows"] if row.name == "default"]
    assert 16 < row.enqueued_a_minute <= 20  # (30 - 10 + 80) in five minutes, or a little more
    assert row.finished_a_minute == 16
    assert row.drain == pytest.approx(30 / 16 * 60)


def test_lengths_of_before_are_looked_for_some_minutes_further_back(valkey):
    minute = int(time.time()) // 60
    assert samples.lengths_before(5) is None
    get_connection("default").hset(f"jobs:samples:{minute - 7}", mapping={"low": "12 0.5"})
    ago, lengths = samples.lengths_before(5)
    assert 7 * 60 <= ago < 8 * 60 + 1
    assert lengths == {"low": 12}


def test_the_numbers_of_a_span(admin_client):
    beat()
    for outcome, number in {"finished": 5, "retried": 3, "dead": 2, "requeued": 1, "discarded": 4}.items():
        count(3, f"low|a.B|{outcome}|3", number)
    page = overview(admin_client)
    assert (page["processed"], page["failed"]) == (15, 5)
    assert page["outcomes"] == [("retried", 3), ("dead", 2), ("requeued", 1), ("discarded", 4)]
    assert "15 processed, 5 failed, 3 to be retried, 2 dead" in text(admin_client, reverse(OVERVIEW))


def test_processes_are_linked(admin_client):
    for number in range(25):
        beat(f"w{number:02}")
    page = text(admin_client, reverse(OVERVIEW))
    assert url("worker", "w00") in page
    assert url("worker", "w20") not in page
    assert "All 25 workers" in page


def test_a_change_of_many_is_shown_while_it_runs_and_a_little_longer(admin_client):
    change = bulk.start("delete", "dead", {}, Count(7, more=True))
    assert "0 of 7+ jobs" in text(admin_client, reverse(OVERVIEW))
    client = get_connection("critical")
    client.hset(f"jobs:bulk:{change.id}", mapping={"ended": time.time(), "changed": 9})
    assert "9 of 7+ jobs" in text(admin_client, reverse(OVERVIEW))
    client.hset(f"jobs:bulk:{change.id}", "ended", time.time() - 600)
    assert change.id not in text(admin_client, reverse(OVERVIEW))


# --- recurring entries, workers and commands -------------------------------------------------


def test_recurring_entries_come_page_by_page(admin_client, monkeypatch):
    monkeypatch.setattr(recurring, "ENTRIES", 10)
    for number in range(25):
        scheduler.add(Entry(f"entry {number:02}", WriteNote, args=("x",), every=3_600))
    found, cursor = [], ""
    for _ in range(3):
        page = admin_client.get(url("recurring"), {"cursor": cursor})
        found += [entry.name for entry, _ in page.context["rows"]]
        cursor = page.context["next"]
    assert found == [f"entry {number:02}" for number in range(25)]
    assert cursor == ""


def test_those_that_are_due_next(valkey):
    for number in range(25):
        scheduler.add(Entry(f"entry {number}", WriteNote, args=("x",), every=3_600 - number))
    get_connection("default").zadd("rq:scheduler:scheduled_jobs", {"somebody-elses": 1})
    upcoming, has_turn = scheduler.upcoming(3)
    assert [entry.name for entry in upcoming] == ["entry 24", "entry 23", "entry 22"]
    assert not has_turn


def test_an_entry_is_got_by_its_name_alone(valkey):
    scheduler.add(Entry("a b", WriteNote, args=("x",), cron="@hourly"))
    assert scheduler.get("a b").id == "entry-a-b"
    with pytest.raises(ScheduleError, match="There is no recurring entry 'a-b'"):
        scheduler.get("a-b")


def test_a_thousand_workers_are_one_page(admin_client):
    for number in range(1_001):
        beat(f"w{number:04}", memory_mb=2, running=1)
    page = text(admin_client, url("workers"))
    assert "1,001 worker processes." in page
    assert "1,001 of 2,002 threads are busy; 2,002 MB in use." in page
    assert "1 to 50 of 1,001" in page
    last = admin_client.get(url("workers"), {"page": "21"})
    assert [worker.name for worker in last.context["workers"]] == ["w1000"]
    found = admin_client.get(url("workers"), {"text": "W0007"})
    assert [worker.name for worker in found.context["workers"]] == ["w0007"]
    assert "1 matches the search." in found.content.decode()
    assert page.count('name="csrfmiddlewaretoken"') < 5  # one form, not one a row


def test_workers_are_grouped_by_host_and_release(admin_client):
    for number, (host, release) in enumerate([("a", "5ada9a3"), ("b", "5ada9a3"), ("a", "5ada9a3"), ("a", "")]):
        beat(f"w{number}", hostname=host, code_version=release, running=1, queues=",".join(f"q{n}" for n in range(40)))
    page = admin_client.get(url("workers"))
    assert [worker.name for worker in page.context["workers"]] == ["w3", "w0", "w2", "w1"]
    assert page.content.decode().count('<tr class="jobs-group">') == 3
    assert "a <small>release 5ada9a3 2 processes, 2 of 4 threads busy</small>" in page.content.decode()
    assert "q0, q1, q2, q3 and 36 more" in page.content.decode()


@pytest.mark.parametrize("page", ["0", "-1", "9999999999", "x", ""])
def test_any_page_number_is_a_page(page, admin_client):
    beat()
    assert len(admin_client.get(url("workers"), {"page": page}).context["workers"]) == 1
    assert admin_client.get(url("commands"), {"page": page}).status_code == 200


def test_commands_are_searched_and_paged(admin_client):
    for number in range(60):
        count(1, f"low|a.Quick{number}|finished|3", 60 - number)
    page = admin_client.get(url("commands"), {"sort": "runs"})
    assert len(page.context["rows"]) == 50
    assert "1 to 50 of 60" in page.content.decode()
    assert 'href="?sort=runs&amp;page=2" rel="next"' in page.content.decode()
    second = admin_client.get(url("commands"), {"sort": "runs", "page": "2"})
    assert [row.command for row in second.context["rows"]] == [f"a.Quick{number}" for number in range(50, 60)]
    found = admin_client.get(url("commands"), {"text": "quick59 LOW"})
    assert [row.command for row in found.context["rows"]] == ["a.Quick59"]


def test_what_a_worker_says_of_itself_is_text(admin_client):
    beat("<b>w/1</b>", queues="<i>low</i>", hostname="<u>", state="<s>", version="<q>", pid="nan", load="inf")
    page = text(admin_client, url("workers")).partition('id="jobs-part"')[2]
    for tag in ("<b>", "<i>", "<u>", "<s>", "<q>"):
        assert tag not in page
    assert 'href="%3Cb%3Ew%2F1%3C%2Fb%3E/"' in page


def test_what_a_worker_runs_is_linked(admin_client):
    beat(running=5)
    client = get_connection("default")
    jobs = WriteNote.defer_many([("x",)] * 5)
    client.sadd("rq:worker:w:executions", *(f"{job.id}:w.{n}" for n, job in enumerate(jobs)))
    client.set("rq:worker:odd", "no hash")
    client.sadd("rq:workers", "rq:worker:odd", "rq:worker:gone")
    page = text(admin_client, url("workers"))
    assert "1 worker process." in page
    assert page.count('href="../job/') == 3
    assert "of 5" in page
    shown = text(admin_client, url("worker", "w"))
    assert all(url("job", job.id) in shown for job in jobs)


def test_commands_the_slowest_and_the_most_failing_first(admin_client, one_minute):
    count(1, "low|a.Quick|finished|3", 50)
    count(2, "low|a.Slow|finished|25", 2)
    count(3, "default|a.Bad|dead|10", 7)
    order = {}
    for sort in ("time", "slowest", "failures", "runs"):
        page = admin_client.get(url("commands"), {"sort": sort})
        order[sort] = page.context["rows"][0].command
    assert order == {"time": "a.Slow", "slowest": "a.Slow", "failures": "a.Bad", "runs": "a.Quick"}
    page = text(admin_client, url("commands") + "?span=nonsense&sort=nonsense")
    assert "<title>a.Quick over time: at most 50 runs, at " in page
    assert page.count('<svg class="jobs-trend is-bad"') == 1
    for cells in ("<small>default</small></th><td>7 (7)</td><td>0</td><td>0</td>", "<td>0</td><td>0</td><td>50</td>"):
        assert cells in page  # of the three minutes in which anything ran
    assert page.partition('id="jobs-numbers"')[2].count('<th scope="col"') == 1 + 3
    assert text(admin_client, url("commands") + "?span=3days")


# --- a server that does not do its part ------------------------------------------------------


@pytest.mark.parametrize("trouble", ["LOADING Redis is loading the dataset in memory", "BUSY Redis is busy"])
def test_a_server_that_answers_with_an_error_is_told_on_pages_and_after_actions(trouble, admin_client, monkeypatch):
    job = WriteNote.defer("x")
    kind = BusyLoadingError if trouble.startswith("LOADING") else ResponseError

    def refuse(self, *args, **kwargs):
        raise kind(trouble)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", refuse)
    for address in (reverse(OVERVIEW), url("list", "dead"), url("job", job.id), url("queue", "low"), url("workers")):
        assert trouble in text(admin_client, address, status=503)
    for address in (
        url("job_retry", job.id),
        url("queue_pause", "low"),
        url("queue_clear", "low"),
        url("entry_run", "x"),
    ):
        response = admin_client.post(address)
        assert response.status_code == 302
    assert trouble in text(admin_client, reverse(OVERVIEW), status=503)
    assert admin_client.get(url("api_overview")).status_code == 503


def test_a_full_server_refuses_a_change_in_a_message(admin_client, valkey):
    WriteNote.defer("x", wait=60)
    client = get_connection("default")
    client.config_set("maxmemory", "1")
    try:
        assert "maxmemory" in admin_client.post(url("queue_pause", "low"), follow=True).content.decode()
        assert "1 job." in text(admin_client, url("list", "scheduled"))
    finally:
        client.config_set("maxmemory", "0")
    assert queues.paused() == set()


def test_a_server_that_stands_still_is_told(admin_client, valkey, impatient):
    queues.pause("low")  # a connection is open
    valkey.process.send_signal(signal.SIGSTOP)
    try:
        page = text(admin_client, url("list", "dead"), status=503)
        assert "Redis does not answer: it holds the connection open" in page
    finally:
        valkey.process.send_signal(signal.SIGCONT)
