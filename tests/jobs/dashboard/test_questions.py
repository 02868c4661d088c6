"""The confirmation pages: what a change concerns, and what its button says."""

import re

import pytest
from django.urls import reverse

from jobs import queues
from jobs.inspection import activity
from tests.jobs.dashboard.pages import OVERVIEW, send, staff, text, url
from tests.sample.commands.notes import Fail, WriteNote
from tests.sample.commands.trouble import TroubleOnce

pytestmark = pytest.mark.django_db(transaction=True)

ALL = ' name="all" value="1"'


def asked(client, address, **data):
    page = client.post(address, data)
    assert page.status_code == 200
    return page.context["asked"], page.content.decode()


def test_all_that_match_are_broken_down_by_command_and_error(admin_client, worker):
    Fail.defer_many([(f"message {number}",) for number in range(6)])
    TroubleOnce.defer(times=1)
    worker.run()
    question, page = asked(admin_client, url("many_delete", "dead"), all="1", queue="default", text="sample")
    assert (question.text, question.verb, question.is_danger) == ("Delete 7 jobs?", "Delete", True)
    assert question.filters == [("state", "dead"), ("queue", "default"), ("text", "sample")]
    (_, by_command), (_, by_error) = question.parts
    assert by_command == [("sample.Fail", 6), ("sample.TroubleOnce", 1)]
    assert by_error[0] == ("RuntimeError", 7)
    assert len(question.samples) == 5
    assert url("job", question.samples[0][0]) in page
    assert "is-main is-danger" in page
    assert "cannot be restored" in page


def test_a_count_that_stopped_says_at_least(admin_client, monkeypatch):
    monkeypatch.setattr("jobs.inspection.query.SEARCHED", 100)
    monkeypatch.setattr("jobs.inspection.query.SEARCHED_AT_ONCE", 50)
    monkeypatch.setattr("jobs.dashboard.questions.GROUPED", 100)
    WriteNote.defer_many([(str(number),) for number in range(150)])
    question, page = asked(admin_client, url("many_cancel", "queued"), all="1", text="sample")
    assert question.text == "Cancel at least 100 jobs?"
    assert question.looked_at == 100
    assert "among the first 100" in page


def test_a_retry_of_all_asks_without_red_and_one_of_some_does_not_ask(admin_client, worker):
    job = Fail.defer()
    worker.run()
    question, page = asked(admin_client, url("many_retry", "dead"), all="1")
    assert (question.text, question.verb, question.note) == ("Retry 1 job?", "Retry", "")
    assert "is-danger" not in page
    assert admin_client.post(url("many_retry", "dead"), {"job": [job.id]}).status_code == 302


def test_to_interrupt_is_one_word(admin_client, worker):
    job = WriteNote.defer("x")
    worker.claim()
    question, _page = asked(admin_client, url("job_cancel", job.id))
    assert (question.text, question.verb) == (f"Interrupt job {job.id}?", "Interrupt")
    question, _page = asked(admin_client, url("many_cancel", "running"), job=[job.id])
    assert question.text == "Interrupt 1 job?"
    assert ">Interrupt selected</button>" in text(admin_client, url("list", "running"))
    assert "1 job was interrupted." in send(admin_client, url("many_cancel", "running"), job=[job.id])
    (change,), _ = activity.page(1)
    assert change.what == "interrupt"


def test_a_job_that_interrupts_many_says_so_too(admin_client, worker, monkeypatch):
    monkeypatch.setattr("jobs.dashboard.actions.MOST_AT_ONCE", 0)
    WriteNote.defer("x")
    worker.claim()
    page = send(admin_client, url("many_cancel", "running"), all="1")
    assert "1 job is being interrupted." in page
    assert "<h1>Interrupt: 1 job</h1>" in page
    assert "<dd>Interrupt</dd>" in page
    assert "Interrupt: <a" in text(admin_client, reverse(OVERVIEW))


def test_a_list_has_buttons_for_the_selected_jobs_and_for_all(admin_client, client):
    jobs = [WriteNote.defer(word, wait=60) for word in ("pear", "apple", "apple")]

    def buttons(client, query=""):
        page = text(client, url("list", "scheduled") + query)
        return re.findall(r'<button type="submit"( name="all" value="1")? class="jobs-button[^>]*>(.*?)</button>', page)

    each = ["Run selected now", "Cancel selected", "Delete selected"]
    every = ["Run all 3 now", "Cancel all 3", "Delete all 3"]
    assert buttons(admin_client)[-6:] == [("", name) for name in each] + [(ALL, name) for name in every]
    matching = ["Run all that match now", "Cancel all that match", "Delete all that match"]
    assert buttons(admin_client, "?text=apple")[-3:] == [(ALL, name) for name in matching]
    client.force_login(staff("view", "cancel"))
    assert buttons(client)[-2:] == [("", "Cancel selected"), (ALL, "Cancel all 3")]

    question, _page = asked(admin_client, url("many_cancel", "scheduled"), all="1", text="apple")
    assert question.text == "Cancel 2 jobs?"
    send(admin_client, url("many_cancel", "scheduled"), all="1", text="apple")
    assert [job.state for job in jobs] == ["scheduled", "cancelled", "cancelled"]


def test_what_a_job_says_of_itself_is_text(admin_client):
    job = WriteNote.defer("<b>\u202e")
    question, page = asked(admin_client, url("job_delete", job.id))
    assert question.samples == [(job.id, "sample.WriteNote('<b>\\u202e')", "")]
    assert "<b>" not in page.partition("jobs-question")[2]
    assert "\u202e" not in page


def test_a_queue_that_is_cleared_shows_what_is_in_it(admin_client):
    WriteNote.defer_many([(str(number),) for number in range(3)], queue="low")
    question, _page = asked(admin_client, url("queue_clear", "low"))
    assert question.text == "Delete all 3 jobs that wait in the queue low?"
    assert question.parts[0][1] == [("sample.WriteNote", 3)]
    assert queues.lengths()["low"] == 3
