"""Deadlocks and lock time-outs, made on a real server, are retried within seconds."""

import threading
import time

import pytest
from django.db import connection, transaction

from jobs.broker.connections import get_connection
from tests.sample.commands.locks import LockBoth
from tests.sample.models import Note

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(
        connection.vendor == "sqlite", reason="SQLite locks the whole database: DB=postgres, DB=mariadb"
    ),
]
# The other transaction is not the victim. PostgreSQL: it finds the deadlock later; InnoDB: it has changed more rows.
WAIT_LONGER = {"postgresql": "SET LOCAL deadlock_timeout = '1h'", "mysql": "SET innodb_lock_wait_timeout = 3600"}
TIME_OUT = "SET innodb_lock_wait_timeout = 1"


def run_against(other, worker, monkeypatch, **fields):
    """Run a job that locks two notes; between them, `other` has locked the second and waits for `go_on`."""
    first, second = Note.objects.create(text="a"), Note.objects.create(text="b")
    has_second, has_first, may_end = threading.Event(), threading.Event(), threading.Event()

    def hold():
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(WAIT_LONGER[connection.vendor])
                Note.objects.bulk_create(Note(text="many") for _ in range(100))
                Note.objects.filter(pk=second.pk).update(text="held")
                has_second.set()
                has_first.wait(60)
                other(first)
                may_end.wait(60)
        finally:
            connection.close()

    def between():
        thread.start()
        has_second.wait(60)
        has_first.set()

    thread = threading.Thread(target=hold)
    with monkeypatch.context() as patch:
        patch.setattr(LockBoth, "between", staticmethod(between))
        job = LockBoth.defer(first, second, **fields)
        worker.run()
    may_end.set()
    thread.join()
    return job


def assert_retried_soon(job, code, worker):
    due_in = get_connection("default").zscore("rq:scheduled:default", job.id) - time.time()
    assert (job.state, code in job.reason, due_in < 10) == ("retrying", True, True)
    worker.hurry().run()
    assert job.state == "finished"
    assert Note.objects.exclude(text="many").values_list("text", flat=True).order_by("text").last() == "second"


def test_the_victim_of_a_deadlock_is_retried_within_seconds(worker, monkeypatch):
    def lock(first):
        Note.objects.filter(pk=first.pk).update(text="held")

    job = run_against(lock, worker, monkeypatch)
    assert_retried_soon(job, {"mysql": "1213", "postgresql": "deadlock"}[connection.vendor], worker)


@pytest.mark.skipif(
    connection.vendor != "mysql", reason="PostgreSQL's lock_timeout is a choice, and an error: DB=mariadb"
)
def test_a_lock_that_is_waited_for_too_long_is_retried_within_seconds(worker, monkeypatch):
    job = run_against(lambda first: None, worker, monkeypatch, setting=TIME_OUT)
    assert_retried_soon(job, "1205", worker)
