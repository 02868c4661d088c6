"""The page of the errors: one line for the same error of many jobs, retried and deleted there."""

import pytest

from jobs.inspection import JobQuery, error_counts
from jobs.inspection.error_counts import Became
from jobs.job import JobState
from tests.jobs.dashboard.pages import count_trips, send, staff, text, url
from tests.sample.commands.notes import Fail

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def failed(worker):
    jobs = [Fail.defer(message) for message in ("order 1 <b>", "order 22 <b>", "something else")]
    worker.run()
    return jobs


def group_of(message):
    return next(group for group in error_counts.recent() if group.message.startswith(message))


def test_an_error_is_one_line_with_its_count_and_commands(failed, admin_client):
    page = text(admin_client, url("errors"))
    assert "order N &lt;b&gt;" in page
    assert "2 errors" in page
    assert "tests.sample.commands.notes:Fail.call" in page
    assert f"{url('list', 'dead')}?fingerprint={group_of('order').id}" in page
    assert url("command", "sample.Fail") in page
    assert "0 errors of shop.Other" in text(admin_client, url("errors") + "?command=shop.Other")
    listed = text(admin_client, url("list", "dead") + f"?fingerprint={group_of('order').id}")
    assert "something else" not in listed.replace("jobs-kept", "")
    (first, second) = admin_client.get(url("api_errors")).json()["errors"]
    assert {first["count"], second["count"]} == {1, 2}


@pytest.mark.parametrize("most", [500, 1])
def test_its_jobs_are_retried_there_and_followed(most, failed, admin_client, worker, monkeypatch):
    monkeypatch.setattr("jobs.dashboard.actions.MOST_AT_ONCE", most)
    group = group_of("order")
    send(admin_client, url("many_retry", "dead"), all="1", fingerprint=group.id)
    if most == 1:  # by a job of its own
        worker.step()
    assert [job.state for job in failed] == [JobState.QUEUED, JobState.QUEUED, JobState.DEAD]
    assert error_counts.became([group.id])[group.id] == Became(pending=2)
    assert "0 passed, 0 failed, 2 pending" in text(admin_client, url("errors"))
    monkeypatch.setattr(Fail, "call", lambda self: None)
    worker.run()
    assert "2 passed, 0 failed, 0 pending" in text(admin_client, url("errors"))


def test_its_jobs_are_deleted_there(failed, admin_client):
    send(admin_client, url("many_delete", "dead"), all="1", fingerprint=group_of("order").id)
    assert [row.id for row in JobQuery(state=JobState.DEAD).page().rows] == [failed[2].id]


def test_the_buttons_are_for_who_may(failed, client):
    client.force_login(staff("view"))
    page = text(client, url("errors"))
    assert "order N" in page
    assert "Retry the dead jobs" not in page
    client.force_login(staff("view", "retry"))
    page = text(client, url("errors"))
    assert "Retry the dead jobs of RuntimeError" in page
    assert "Delete the dead jobs" not in page


def test_it_costs_a_few_round_trips(failed, admin_client, monkeypatch):
    text(admin_client, url("errors"))
    made = count_trips(monkeypatch)
    text(admin_client, url("errors"))
    assert len(made) <= 6
