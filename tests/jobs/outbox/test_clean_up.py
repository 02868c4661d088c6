"""Receipts go a day after Redis has forgotten their jobs: by a recurring entry that comes with the package."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test import override_settings
from django.utils import timezone
from redis.exceptions import ConnectionError as RedisConnectionError

from jobs import conf, doctor, scheduler
from jobs.broker.connections import get_connection
from jobs.commands.clean_up_receipts import CleanUpReceipts
from jobs.doctor import Severity
from jobs.models import Receipt
from jobs.outbox import receipts
from jobs.recurring import entry
from jobs.scheduler import Entry
from tests.sample.commands.atomic import WriteOnce, WriteOnceElsewhere
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

DAY = timedelta(days=1)


def pass_time(days):
    for receipt in Receipt.objects.all():
        receipt.created_at -= days * DAY
        receipt.forgotten_at = receipt.forgotten_at and receipt.forgotten_at - days * DAY
        receipt.save()


def forget(job):
    get_connection("default").delete(job.key)


def test_a_receipt_is_deleted_a_day_after_its_job_is_forgotten(worker):
    job = WriteOnce.defer("a")
    worker.run()
    pass_time(30)
    assert CleanUpReceipts.run() == 0, "its job is there"
    assert Receipt.objects.get().forgotten_at is None

    forget(job)
    assert CleanUpReceipts.run() == 0
    pass_time(0.99)
    assert CleanUpReceipts.run() == 0
    pass_time(0.02)
    assert CleanUpReceipts.run() == 1
    assert not Receipt.objects.exists()


def test_a_job_that_comes_back_keeps_its_receipt(worker, valkey):
    """A server is restored from an older file, in which the job is still queued."""
    job = WriteOnce.defer("a")
    client = get_connection("default")
    queued = client.dump(job.key)
    worker.run()
    forget(job)
    CleanUpReceipts.run()
    pass_time(2)
    client.restore(job.key, 0, queued)
    client.rpush("rq:queue:default", job.id)

    assert CleanUpReceipts.run() == 0
    assert Receipt.objects.get().forgotten_at is None
    Note.objects.all().delete()
    worker.run()
    assert (job.state, Note.objects.count()) == ("finished", 0)


def test_all_are_looked_at_in_slices_and_in_each_database(worker, monkeypatch):
    monkeypatch.setattr(receipts, "SLICE", 3)
    jobs = WriteOnce.defer_many([(str(n),) for n in range(7)]) + WriteOnceElsewhere.defer_many([("a",), ("b",)])
    worker.run()
    for job in jobs[1:]:
        forget(job)
    CleanUpReceipts.run()
    for alias in ("default", "other"):
        Receipt.objects.using(alias).exclude(forgotten_at=None).update(forgotten_at=timezone.now() - 2 * DAY)
    assert CleanUpReceipts.run() == 8
    assert [str(each.pk) for each in Receipt.objects.all()] == [jobs[0].id]


def test_nothing_is_deleted_while_a_server_does_not_answer(worker, monkeypatch):
    job = WriteOnce.defer("a")
    worker.run()
    forget(job)
    CleanUpReceipts.run()
    pass_time(2)

    def away():
        raise RedisConnectionError

    monkeypatch.setattr(receipts, "servers", away)
    with pytest.raises(RedisConnectionError):
        CleanUpReceipts.run()
    assert Receipt.objects.count() == 1


class TestEntry:
    @pytest.fixture(autouse=True)
    def on(self, settings):
        settings.JOBS = settings.JOBS | {"CLEAN_UP": True}

    def test_it_comes_with_the_package_where_a_command_is_atomic(self):
        assert [(each.name, each.command) for each in entry.listed()] == [("clean up receipts", entry.CLEANER)]
        assert not list(entry.listed()[0].problems())

    def test_a_worker_writes_it(self, worker_process):
        with override_settings(JOBS=conf.settings.JOBS):
            scheduler.sync(entry.listed())
        (stored,) = scheduler.entries()
        assert (stored.name, stored.queue, stored.from_file) == ("clean up receipts", "low", True)

    def test_the_projects_own_entry_for_it_counts(self, monkeypatch):
        own = Entry("at night", CleanUpReceipts, cron="0 4 * * *")
        monkeypatch.setattr(entry, "_of_project", lambda path: [own])
        assert entry.listed() == [own]

    def test_without_atomic_commands_there_is_none(self, monkeypatch):
        monkeypatch.setattr(entry.registry, "all_commands", dict)
        assert entry.listed() == []


class TestDoctor:
    def test_it_names_receipts_that_nobody_deletes(self, worker):
        WriteOnce.defer("a")
        worker.run()
        pass_time(3.9)  # a command keeps its results for a day
        assert not [found for found in doctor.databases.findings() if "receipt" in found.what]
        pass_time(0.2)
        (found,) = [found for found in doctor.databases.findings() if "receipt" in found.what]
        assert (found.severity, found.what.partition(" should")[0]) == (
            Severity.WARNING,
            "Of 1 receipt looked at in the database 'default', 1",
        )
        assert "jobs run jobs.CleanUpReceipts" in found.mend

    def test_it_names_a_database_without_their_table(self):
        with connection.schema_editor() as editor:
            editor.delete_model(Receipt)
        try:
            found = [found for found in doctor.databases.findings() if "receipts" in found.what]
        finally:
            with connection.schema_editor() as editor:
                editor.create_model(Receipt)
        assert [(each.severity, each.mend) for each in found] == [
            (Severity.ERROR, "python manage.py migrate jobs --database default")
        ]
