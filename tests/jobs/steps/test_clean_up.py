"""What long jobs leave behind: cursors go a day after Redis has forgotten their jobs, and nothing else is left."""

from datetime import timedelta

import pytest
from django.test import override_settings

from jobs.broker.connections import get_connection
from jobs.client import options
from jobs.commands.clean_up_receipts import CleanUpReceipts
from jobs.mandate import Mandate
from jobs.models import Cursor
from jobs.recurring import entry
from tests.sample.commands.notes import WriteNote
from tests.sample.commands.steps import Grade, Plan
from tests.sample.models import Batch, Submission

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def test_a_cursor_is_deleted_a_day_after_its_job_is_forgotten(worker, plan):
    job = Grade.defer(Batch.objects.create().pk)
    worker.run()
    assert Cursor.objects.count() == 1
    CleanUpReceipts.run()
    assert Cursor.objects.get().forgotten_at is None, "its job is there"

    get_connection("default").delete(job.key)
    CleanUpReceipts.run()
    row = Cursor.objects.get()
    row.forgotten_at -= timedelta(days=1, minutes=1)
    row.save()
    assert CleanUpReceipts.run() == 1
    assert not Cursor.objects.exists()


def test_cursors_of_another_database_go_too(worker, plan, did):
    @plan
    def elsewhere(command):
        command.each(range(3), did.append, atomic="other")

    job = Plan.defer("elsewhere")
    worker.run()
    assert (job.state, did, Cursor.objects.count()) == ("finished", [0, 1, 2], 0)
    get_connection("default").delete(job.key)
    CleanUpReceipts.run()
    assert Cursor.objects.using("other").get().forgotten_at


def test_the_recurring_entry_comes_with_a_command_that_may_leave_cursors(monkeypatch):
    assert options.leaves_rows(Grade)
    assert not options.leaves_rows(WriteNote) and not options.leaves_rows(Mandate)
    monkeypatch.setattr(entry.registry, "all_commands", lambda: {"sample.Grade": Grade})
    with override_settings(JOBS={"QUEUES": {"default": ""}}):
        assert entry.CLEANER in [each.command for each in entry.listed()]
    monkeypatch.setattr(entry.registry, "all_commands", lambda: {"sample.WriteNote": WriteNote})
    with override_settings(JOBS={"QUEUES": {"default": ""}}):
        assert entry.CLEANER not in [each.command for each in entry.listed()]


def test_a_job_that_has_begun_does_not_expire(worker, plan, did, orders, monkeypatch):
    monkeypatch.setattr(Plan, "expires_in", 3_600)

    @plan
    def visit(command):
        for number in command.each(range(3)):
            did.append(number)
            if did == [0]:
                orders.reason = "the worker stops"

    job = Plan.defer("visit")
    worker.step()
    get_connection("default").hset(job.key, "expires_at", 1)
    worker.run()
    assert (job.state, did) == ("finished", [0, 1, 2])


def test_a_job_without_a_result_leaves_no_key(worker, plan, valkey, monkeypatch):
    monkeypatch.setattr(Plan, "result_ttl", 0)

    @plan
    def both(command):
        command.step(command.one)
        for _ in command.each(range(3)):
            pass

    job = Plan.defer("both")
    worker.run()
    with valkey.client() as client:
        assert not [key for key in client.scan_iter("*") if job.id.encode() in key]


def test_a_finished_job_keeps_its_steps_as_long_as_its_record(worker, plan, did):
    Submission.objects.all().delete()
    job = Grade.defer(Batch.objects.create().pk)
    worker.run()
    client = get_connection("default")
    assert client.hexists(job.key, "steps") and client.ttl(job.key) > 0
