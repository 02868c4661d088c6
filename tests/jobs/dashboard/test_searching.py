"""The search over all states, and what every list shows of it."""

import re

import pytest
from django.urls import reverse

from jobs.broker.connections import get_connection
from jobs.inspection import JobQuery, kept_searches
from jobs.job import JobState
from tests.jobs.dashboard.pages import OVERVIEW, send, staff, text, url
from tests.sample.commands.notes import Fail, WriteNote

pytestmark = pytest.mark.django_db(transaction=True)


def test_it_searches_all_states_and_each_state_keeps_the_search(admin_client, worker):
    Fail.defer("pear")
    Fail.defer("apple")
    worker.run()
    WriteNote.defer("pear")
    page = text(admin_client, url("search") + "?q=pear")
    assert "sample.Fail(&#x27;pear&#x27;)" in page
    assert "sample.WriteNote(&#x27;pear&#x27;)" in page
    assert "apple" not in page
    assert f'{url("list", "dead")}?q=pear">Dead <small>1</small>' in page
    listed = text(admin_client, url("list", "dead") + "?q=pear")
    assert f'{url("list", "queued")}?q=pear">Queued <small>1</small>' in listed
    assert '<input type="hidden" name="q" value="pear">' in listed  # for the changes of all that match
    assert "apple" not in listed


def test_controls_of_text_direction_are_marks_in_what_it_finds(admin_client, worker):
    job = Fail.defer("x\u202e")
    worker.run()
    for address in (
        url("search") + "?q=state:dead+state:queued",
        url("errors"),
        url("command", job.command_name),
        url("list", "dead"),
    ):
        page = text(admin_client, address)
        assert "\u202e" not in page
        assert "\u27e8U+202E\u27e9" in page


def test_an_id_of_an_element_is_on_a_page_once(admin_client):
    for address in (url("workers"), url("commands"), url("search"), url("list", "dead")):
        ids = re.findall(r' id="([^"]+)"', text(admin_client, address))
        assert len(ids) == len(set(ids)), address


def test_one_state_leads_to_its_list_and_an_id_to_its_job(admin_client):
    job = WriteNote.defer("x")
    answer = admin_client.get(url("search"), {"q": "state:dead error:KeyError"})
    assert answer.url == url("list", "dead") + "?q=error%3AKeyError"
    assert admin_client.get(url("search"), {"q": f" {job.id} "}).url == url("job", job.id)


@pytest.mark.parametrize("address", ["search", "list"])
def test_what_is_not_understood_is_said_and_nothing_is_listed(address, admin_client):
    WriteNote.defer("x")
    answer = admin_client.get(url(address, *["queued"] * (address == "list")), {"q": "since=yesterday <b>"})
    page = answer.content.decode()
    assert answer.status_code == 400
    assert "Write since:yesterday" in page
    assert "WriteNote(" not in page
    assert 'value="since=yesterday &lt;b&gt;"' in page


@pytest.mark.parametrize(
    "given", [{"since": "yesterdy"}, {"q": "since=yesterday"}, {"q": "queue:nowhere"}, {"q": "a:b"}]
)
@pytest.mark.parametrize("confirmed", ["", "1"])
def test_a_filter_that_is_not_understood_never_widens_a_change(given, confirmed, admin_client, worker):
    Fail.defer_many([("x",)] * 5)
    worker.run()
    answer = admin_client.post(url("many_delete", "dead"), {"all": "1", "confirmed": confirmed, **given}, follow=True)
    assert JobQuery(state=JobState.DEAD).count().value == 5
    assert b"errornote" in answer.content or b"messagelist" in answer.content
    if "q" not in given:
        assert admin_client.get(url("list", "dead"), given).status_code == 400


def test_all_that_match_a_search_are_changed_and_no_others(admin_client, worker):
    jobs = [Fail.defer(text) for text in ("4", "40", "400")]
    worker.run()
    send(admin_client, url("many_delete", "dead"), all="1", q="args.message:4")
    assert [job.state for job in jobs] == [None, JobState.DEAD, JobState.DEAD]


def test_many_that_match_are_changed_by_a_job_that_the_release_before_refuses(admin_client, worker, monkeypatch):
    """It knows no search: it would ignore the term, and change all."""
    monkeypatch.setattr("jobs.dashboard.actions.MOST_AT_ONCE", 1)
    jobs = [Fail.defer(text) for text in ("4", "4", "40")]
    worker.run()
    send(admin_client, url("many_delete", "dead"), all="1", q="args.message:4 since:1h")
    (row,) = JobQuery(state=JobState.QUEUED).page().rows
    assert len(row.call.args) == 4  # the release before has three fields
    assert row.call.args[3] == "args.message:4"
    assert row.call.args[2]["since"] != "1h"
    worker.run()
    assert [job.state for job in jobs] == [None, None, JobState.DEAD]


def test_terms_can_be_taken_away_and_added(admin_client, worker):
    Fail.using(queue="low").defer("pear")
    Fail.defer("pear")
    worker.run()
    page = text(admin_client, url("search") + "?q=pear+error:RuntimeError")
    assert 'href="/admin/jobs/dashboard/search/?q=pear" aria-label="Remove error:RuntimeError"' in page
    assert "?q=pear+error%3ARuntimeError+queue%3Alow" in page


def test_the_box_is_on_every_page_and_suggests(admin_client):
    for address in (reverse(OVERVIEW), url("workers"), url("commands"), url("list", "dead")):
        page = text(admin_client, address)
        assert 'id="jobs-search"' in page
        assert '<option value="command:sample.WriteNote">' in page
        assert '<option value="queue:low">' in page


def test_a_search_is_kept_for_its_user_alone(admin_client, client):
    page = send(admin_client, url("search_keep"), name="my <dead>", q="state:dead args.user:7")
    assert "The search was saved as my &lt;dead&gt;." in page
    page = text(admin_client, url("list", "queued"))
    assert "my &lt;dead&gt;</a>" in page
    assert "?q=state%3Adead+args.user%3A7" in page
    client.force_login(staff("view"))
    assert "my &lt;dead&gt;" not in text(client, url("list", "queued"))
    page = send(admin_client, url("search_forget"), name="my <dead>")
    assert "The saved search my &lt;dead&gt; was deleted." in page
    assert "my &lt;dead&gt;</a>" not in text(admin_client, url("list", "queued"))


def test_kept_searches_are_bounded_and_valid(admin_client, monkeypatch):
    monkeypatch.setattr(kept_searches, "MOST", 2)
    for name, q in (("a", "x"), ("b", "x"), ("c", "x"), ("a", "y"), ("", "x"), ("n" * 61, "x"), ("b", "since=x")):
        send(admin_client, url("search_keep"), name=name, q=q)
    (key,) = get_connection("default").keys("jobs:searches:*")
    assert get_connection("default").hgetall(key) == {b"a": b"y", b"b": b"x"}
