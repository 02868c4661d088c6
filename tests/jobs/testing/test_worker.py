"""`run_worker`: real worker processes on the test's own server."""

import socket

import django_rq
import pytest
from django.conf import settings
from django.db import connection
from django.test import TestCase

from jobs.broker.connections import get_connection
from jobs.testing import JobsTestMixin, run_worker, worker
from tests.sample import functions
from tests.sample.commands.notes import Fail, ShoutNote, WriteNote
from tests.sample.models import Note

processes = pytest.mark.processes
committed = pytest.mark.django_db(transaction=True)


@processes
@committed
def test_each_drain_runs_the_queued_jobs():
    note = Note.objects.create(text="x")
    with run_worker() as worker:
        jobs = [ShoutNote.defer(note), WriteNote.defer("y", queue="low"), WriteNote.defer("later", wait=3_600)]
        worker.drain("critical")
        assert [job.state for job in jobs] == ["finished", "queued", "scheduled"]
        again = ShoutNote.defer(note)
        failed = Fail.defer("no luck")
        log = worker.drain()

        assert [job.state for job in (*jobs, again)] == ["finished", "finished", "scheduled", "finished"]
        assert (failed.state, failed.reason) == ("dead", "RuntimeError: no luck")
        assert "no luck" in log
    assert sorted(Note.objects.values_list("text", flat=True)) == ["X!!", "y"]


@processes
@committed
def test_an_open_kit_is_set_aside(jobs):
    with run_worker() as worker:
        job = WriteNote.defer("x")
        worker.drain()
        assert job.state == "finished"
        jobs.assert_no_enqueued_jobs()
        own = settings.RQ_QUEUES["default"]["URL"]
        assert get_connection("default").connection_pool.connection_kwargs["path"] in own
    WriteNote.defer("y")

    assert settings.RQ_QUEUES["default"]["URL"] != own
    jobs.assert_enqueued_jobs(1)


@processes
@committed
def test_plain_rq_jobs_run_there(jobs):
    with run_worker() as worker:
        job = django_rq.get_queue("low").enqueue(functions.write_note, "plain")
        worker.drain()

        assert Note.objects.get(text="plain").pk == job.return_value(refresh=True)


@processes
@committed
def test_a_worker_that_fails_shows_its_log():
    with run_worker() as worker:
        with pytest.raises(RuntimeError, match=r"(?s)^The worker ended with code 1:\n.*Unknown queue: 'mailer'"):
            worker.drain("mailer")
        WriteNote.defer("x")
        with pytest.raises(RuntimeError, match="^The worker was not through after 0.01 s:"):
            worker.drain(timeout=0.01)


@pytest.mark.django_db
def test_a_test_whose_transaction_is_never_committed_is_refused():
    with (
        pytest.raises(RuntimeError, match=r"TransactionTestCase, or pytest.mark.django_db\(transaction=True\)"),
        run_worker(),
    ):
        pass


class InTestCase(JobsTestMixin, TestCase):
    def test_it_is_refused(self):
        with self.assertRaisesMessage(RuntimeError, "Use TransactionTestCase"), run_worker():
            pass


@committed
def test_a_database_in_memory_is_refused(monkeypatch):
    monkeypatch.setattr(connection, "vendor", "sqlite")
    monkeypatch.setattr(connection, "is_in_memory_db", lambda: True, raising=False)
    with pytest.raises(RuntimeError, match="cannot see the database 'default': it is in memory"), run_worker():
        pass


def test_a_socket_is_not_ready_before_its_server_listens(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "server.sock"))
        assert not worker._listens(tmp_path / "server.sock")
        server.listen()
        assert worker._listens(tmp_path / "server.sock")
    assert not worker._listens(tmp_path / "none.sock")
