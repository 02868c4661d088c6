"""An unsent job is cancelled or deleted: the outbox alone has it, and a process may be sending it."""

import pytest
from django.db import transaction

from jobs import control, inspection
from jobs.broker.connections import get_connection
from jobs.errors import ChangeRefusedError
from jobs.job import JobState, MandateJob
from jobs.outbox import hooks
from jobs.outbox import rows as outbox
from jobs.outbox.relay import send_all
from tests.jobs.dashboard.pages import send, url
from tests.jobs.outbox.test_relay import queued, unsent  # noqa: F401  (a fixture)
from tests.sample.commands.durable import KeepRow, KeepTrace
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("change", [control.cancel, control.delete])
def test_an_unsent_job_leaves_the_outbox_and_is_never_sent(change, unsent, rows, relay):  # noqa: F811
    job, other = unsent(KeepRow, "x"), unsent(KeepRow, "y")
    change(inspection.find(job.id))
    assert rows() == [other.id]
    assert (relay(), queued()) == (1, [other.id])
    with pytest.raises(ChangeRefusedError, match="no record"):
        change(job)


@pytest.mark.parametrize("step", ["read", "sent"])
def test_a_process_that_is_sending_it_writes_none_or_was_first(step, unsent, rows, monkeypatch):  # noqa: F811
    job = unsent(KeepRow, "x")
    name = {"read": "unsent", "sent": "sent"}[step]
    whole = getattr(outbox, name)

    def and_cancelled_then(*args):
        monkeypatch.setattr(outbox, name, whole)
        answer = whole(*args) if step == "read" else None
        control.cancel(job)
        return answer if step == "read" else whole(*args)

    monkeypatch.setattr(outbox, name, and_cancelled_then)
    send_all()
    assert (rows(), queued()) == ([], [])
    record = MandateJob.fetch(job.id, connection=job.connection) if job.connection.exists(job.key) else None
    assert (record and record.state) == (None if step == "read" else JobState.CANCELLED)


def test_one_that_has_run_and_is_forgotten_is_not_cancelled(unsent, rows, monkeypatch):  # noqa: F811
    job = unsent(KeepRow, "x")
    with monkeypatch.context() as patch:
        patch.setattr(outbox, "sent", lambda ids: None)
        send_all()
    get_connection("default").delete(job.key)
    with pytest.raises(ChangeRefusedError, match="It finished"):
        control.cancel(job)
    assert rows() == [job.id]
    assert KeepRow.defer("after it", prereq_jobs=[job]).state == JobState.QUEUED  # no trace says that it was cancelled


def test_it_is_withdrawn_with_the_transaction_that_deferred_it(rows):
    with transaction.atomic():
        Note.objects.create(text="kept")
        job = KeepRow.defer("x")
        control.cancel(job)
    assert (rows(), queued()) == ([], [])


def test_the_cancel_of_a_transaction_that_is_rolled_back_holds_all_the_same(unsent, rows, relay):  # noqa: F811
    job = unsent(KeepRow, "x")
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        control.cancel(job)
        raise ZeroDivisionError
    assert rows() == [job.id]
    relay()
    assert (rows(), queued()) == ([], [])


def test_what_waits_for_it_is_blocked(unsent, relay):  # noqa: F811
    job = unsent(KeepRow, "x")
    waits = unsent(KeepRow, "y", prereq_jobs=[job])
    control.cancel(job)
    relay()
    assert MandateJob.fetch(waits.id, connection=waits.connection).state is JobState.BLOCKED
    hooks._failed.clear()


def test_the_page_of_the_job_and_the_list_offer_it(unsent, rows, admin_client):  # noqa: F811
    jobs = [unsent(KeepRow, "x"), unsent(KeepRow, "y")]
    page = admin_client.get(url("job", jobs[0].id)).content.decode()
    assert "it waits for its commit" in page
    assert url("job_cancel", jobs[0].id) in page
    send(admin_client, url("job_cancel", jobs[0].id))
    assert rows() == [jobs[1].id]
    assert "1 job was deleted." in send(admin_client, url("many_delete", "unsent"), job=[jobs[1].id])
    assert rows() == []


def test_in_the_kit_a_refused_cancel_leaves_no_trace_either(jobs, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(outbox, "sent", lambda ids: None)  # the process dies before it deletes the row
        job = KeepTrace.defer("x")
    assert jobs.perform_enqueued_jobs() == 1
    with pytest.raises(ChangeRefusedError, match="It finished"):
        control.cancel(job)
    assert KeepRow.defer("after it", prereq_jobs=[job]).state == JobState.QUEUED
