"""The page of one command."""

import time
from datetime import UTC, datetime

import pytest

from jobs import scheduler
from jobs.broker.connections import get_connection
from jobs.dashboard.format import span as spelt
from jobs.scheduler import Entry
from tests.jobs.dashboard.pages import count_trips, text, url
from tests.jobs.dashboard.test_overview import count
from tests.sample.commands.notes import Fail, WriteNote

pytestmark = pytest.mark.django_db(transaction=True)


def page_of(client, name="sample.Fail", **query):
    answer = client.get(url("command", name), query)
    assert answer.status_code == 200
    return answer


def test_it_shows_what_the_command_did(admin_client, worker):
    scheduler.add(Entry("hourly <b>", Fail, args=("x",), every=3_600))
    Fail.defer_many([("order 7",)] * 3, queue="low")
    WriteNote.defer("x")
    worker.run()
    answer = page_of(admin_client)
    page, shown = answer.content.decode(), answer.context
    assert (shown["hour"].attempts, shown["hour"].failed) == (3, 3)
    assert shown["queues"] == ["default", "low"]
    assert [group.message for group in shown["errors"]] == ["order N"]
    assert len(shown["slowest"]) == 3
    assert ("retries", "0") in shown["options"]
    assert "hourly &lt;b&gt;" in page
    assert "<polyline" in page  # the trend
    assert sum(number for _text, number in shown["durations"]) == 3


def test_run_times_and_waits_have_their_percentiles(admin_client, worker):
    count(1, "low|sample.Fail|finished|20", 90)
    count(1, "low|sample.Fail|finished|23", 10)
    client, minute = get_connection("default"), int(time.time()) // 60
    for ago in range(20):
        client.hset(f"jobs:samples:{minute - ago}", mapping={"low": f"3 {ago}.0", "default": "1 500"})
    (p50, p95, p99) = page_of(admin_client, "sample.Fail").context["quantiles"]
    assert (p50[0], p50[1]) == ("p50", spelt(2**20 / 1e6))
    assert p95[1] == p99[1] == spelt(2**23 / 1e6)
    assert p99[2] == spelt(500)  # that of the queue `default`, which is its own


@pytest.mark.parametrize(("span", "bars"), [("hour", 60), ("day", 24), ("3days", 72), ("2weeks", 15)])
def test_its_chart_goes_back_two_weeks(span, bars, admin_client):
    hour = int(time.time()) // 3_600
    for ago in range(1, 14 * 24):
        get_connection("default").hset(f"jobs:digest:{hour - ago}", "command|sample.Fail", "10 2 1 0.1 0.2 3 0")
    for ago in range(60):
        count(ago, "low|sample.Fail|finished|20", 5)
    page = text(admin_client, url("command", "sample.Fail") + f"?span={span}")
    assert bars - 1 <= page.count('<rect class="ok"') - page.count("under ") <= bars + 1


def test_a_command_of_another_release_is_shown_while_its_figures_are_kept(admin_client):
    assert admin_client.get(url("command", "shop.Gone")).status_code == 404
    hour = int(time.time()) // 3_600
    get_connection("default").hset(f"jobs:digest:{hour - 50}", "command|shop.Gone", "10 2 1 0.1 0.2 3 0")
    assert "This release does not have the command." in page_of(admin_client, "shop.Gone").content.decode()


def test_what_runs_is_shown_with_its_start(admin_client, worker):
    jobs = [WriteNote.defer(n) for n in ("first", "second")]
    worker.claim()
    running = page_of(admin_client, "sample.WriteNote").context["running"]
    assert [row.id for row in running] == [jobs[0].id]
    assert all(row.started_at <= datetime.now(UTC) for row in running)


def test_deploys_are_marked_in_its_chart(admin_client):
    count(1, "low|sample.Fail|finished|20", 1)
    now = int(time.time())
    get_connection("default").hset(
        "jobs:releases", mapping={"5ada9a3": f"{now - 600} {now}", "old": f"{now - 9_000} {now}"}
    )
    page = page_of(admin_client).content.decode()
    assert page.count('<line class="jobs-mark"') == 1
    assert '<span title="5ada9a3">deploy 5ada9a3 <time' in page
    assert page_of(admin_client, span="2weeks").content.decode().count('<line class="jobs-mark"') == 2


def test_it_costs_a_few_round_trips(admin_client, worker, monkeypatch):
    Fail.defer("x")
    worker.run()
    page_of(admin_client)
    made = count_trips(monkeypatch)
    page_of(admin_client)
    assert len(made) <= 15


def test_the_names_of_commands_lead_there(admin_client, worker):
    job = Fail.defer("x")
    worker.run()
    for address in (url("commands"), url("job", job.id)):
        assert f'href="{url("command", "sample.Fail")}"' in text(admin_client, address)
