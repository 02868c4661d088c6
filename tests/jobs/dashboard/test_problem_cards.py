"""The cards of problems on the overview, and the doctor's findings, which share their rules."""

import time

import pytest
from django.urls import reverse

from jobs.broker.connections import get_connection
from jobs.doctor import commands as doctor_of_commands
from jobs.doctor import queues as doctor_of_queues
from tests.jobs.dashboard.pages import OVERVIEW, count_trips, send, staff, text, url
from tests.jobs.dashboard.test_overview import beat, count
from tests.sample.commands.notes import Fail, WriteNote

pytestmark = pytest.mark.django_db(transaction=True)


def usual(text, name="command|sample.Fail"):
    for days in range(1, 8):
        get_connection("default").hset(f"jobs:digest:{int(time.time()) // 3_600 - 24 * days}", name, text)


def failing(worker, n=6):
    beat()
    Fail.defer_many([(f"order {at} <b>",) for at in range(n)], queue="mailers")
    worker.run()


def test_a_command_that_fails_has_a_card_with_cause_and_one_button(admin_client, worker):
    usual("100 1 1 0.1 0.2 9 0")
    failing(worker)
    page = text(admin_client, reverse(OVERVIEW))
    assert "sample.Fail fails: 100 % of 6 attempts in the last 15 min" in page
    assert "100 % RuntimeError; usually 1 % fail at this hour" in page
    assert "Pause mailers" in page
    assert f"{url('list', 'dead')}?q=command%3Asample.Fail" in page
    (problem,) = admin_client.get(url("api_overview")).json()["problems"]
    assert (problem["kind"], problem["queue"], problem["cause"]) == ("failures", "mailers", "RuntimeError")
    assert problem["since"]
    (finding,) = doctor_of_commands.findings()
    assert "sample.Fail fails since" in finding.what
    assert "100% of 6 attempts in 15 min, usually 1.0%; 100% RuntimeError." in finding.what
    assert "jobs pause mailers" in finding.mend


def test_the_button_pauses_the_queue_and_is_for_who_may(admin_client, client, worker):
    failing(worker)
    send(admin_client, url("queue_pause", "mailers"))
    assert get_connection("default").smembers("jobs:paused") == {b"mailers"}
    assert "Pause mailers" not in text(admin_client, reverse(OVERVIEW))
    send(admin_client, url("queue_resume", "mailers"))
    client.force_login(staff("view"))
    page = text(client, reverse(OVERVIEW))
    assert "sample.Fail fails" in page
    assert "Pause mailers" not in page


def test_what_was_retried_and_passed_is_no_problem_any_more(admin_client, worker, one_minute):
    failing(worker)
    client = get_connection("default")
    (key,) = client.keys("jobs:counts:[0-9]*")
    client.rename(key, f"jobs:counts:{int(time.time()) // 60 - 2}")
    count(0, "mailers|sample.Fail|finished|12", 6)
    assert admin_client.get(reverse(OVERVIEW)).context["problems"] == []
    assert list(doctor_of_commands.findings()) == []


def test_a_command_that_became_slow_leads_to_its_page(admin_client):
    beat()
    usual("100 0 0 0.1 0.26 9 0", "command|sample.WriteNote")
    count(0, "default|sample.WriteNote|finished|23", 20)
    page = text(admin_client, reverse(OVERVIEW))
    assert "sample.WriteNote is slow: 95 % take less than" in page
    assert url("command", "sample.WriteNote") in page
    assert "sample.WriteNote is slow" in next(doctor_of_commands.findings()).what


def test_a_starved_queue_says_why(admin_client):
    beat()
    job = WriteNote.using(queue="low").defer("x")
    get_connection("low").hset(job.key, "enqueued_at", "2026-01-01T00:00:00.000000Z")
    for minutes_ago in range(5):
        count(minutes_ago, "default|sample.WriteNote|finished|20", 150)
    page = text(admin_client, reverse(OVERVIEW))
    assert "low is starved: its first job has waited" in page
    assert "2 threads, " in page
    assert "of the last 5 min on queues above" in page
    assert "The queue low is behind" not in page
    (finding,) = (each for each in doctor_of_queues.findings() if "of the queue low" in each.what)
    assert "It is starved: 2 threads" in finding.why


def test_the_cards_cost_three_round_trips(admin_client, worker, monkeypatch):
    failing(worker)
    admin_client.get(reverse(OVERVIEW))
    made = count_trips(monkeypatch)
    admin_client.get(reverse(OVERVIEW))
    assert len(made) <= 15
