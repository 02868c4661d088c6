"""Queues on separate servers, each with its own workers. Operations that cannot span servers are refused, by name."""

import re
from io import StringIO

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command

from config.queues import QUEUES, rq_queues
from jobs import control, queues
from jobs.errors import ChangeRefusedError, PrerequisiteError
from tests.jobs.worker import eventually
from tests.jobs.worker.servers import Server
from tests.sample.commands.limits import Once
from tests.sample.commands.notes import WriteNote
from tests.sample.models import Note

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

HERE = [name for name in QUEUES if name != "critical"]


@pytest.fixture
def elsewhere(valkey, tmp_path, settings, monkeypatch):
    """The server of `critical`; the other queues stay on the tests' own."""
    with Server(tmp_path / "elsewhere") as server:
        settings.RQ_QUEUES = rq_queues(valkey.url, {"critical": server.url})
        monkeypatch.setenv("REDIS_URLS", f"critical={server.url}")
        yield server


def test_jobs_of_both_servers_run_on_workers_of_their_own(elsewhere, valkey, worker_process):
    there = WriteNote.using(queue="critical").defer("there")
    here = WriteNote.defer("here")
    with elsewhere.client() as far, valkey.client() as near:
        assert (far.llen("rq:queue:critical"), near.llen("rq:queue:default")) == (1, 1)
        assert not near.exists("rq:queue:critical")
    assert queues.lengths() == {"critical": 1, "default": 1, "mailers": 0, "background": 0, "low": 0}

    assert worker_process("critical", burst=True).wait() == 0
    assert (there.state, here.state) == ("finished", "queued")
    assert worker_process(*HERE, burst=True).wait() == 0

    assert here.state == "finished"
    assert set(Note.objects.values_list("text", flat=True)) == {"there", "here"}


def test_a_worker_promotes_and_pauses_on_its_own_server(elsewhere, worker_process, monkeypatch):
    queues.pause("critical")
    assert queues.paused() == {"critical"}
    monkeypatch.setenv("REDIS_URL", elsewhere.url)  # where the fixture looks whether the worker is there
    worker_process("critical")
    job = WriteNote.using(queue="critical", wait=0.1).defer("later")
    eventually(lambda: job.state == "queued")

    queues.resume("critical")

    eventually(lambda: job.state == "finished")


def test_a_worker_for_queues_of_two_servers_is_refused_with_the_commands_to_run(elsewhere):
    with pytest.raises(CommandError) as refused:
        call_command("rqworker", stdout=StringIO())

    text = str(refused.value)
    assert "different Redis servers" in text
    assert "manage.py rqworker critical\n" in text
    assert f"manage.py rqworker {' '.join(HERE)}" in text


def test_a_prerequisite_on_another_server_is_refused_naming_both(elsewhere):
    first = WriteNote.using(queue="critical").defer("first")

    with pytest.raises(PrerequisiteError, match=rf"on another Redis \(127\.0\.0\.1:{elsewhere.port}/0\).*unix://"):
        WriteNote.defer("second", prereq_jobs=[first])


def test_a_job_is_not_moved_to_another_server(elsewhere, places):
    job = WriteNote.defer("stays")

    with pytest.raises(ChangeRefusedError, match=re.escape(f"another Redis (127.0.0.1:{elsewhere.port}/0)")):
        control.move(job, "critical")

    assert places() == {job.id: ["queue:default"]}


def test_uniqueness_counts_on_each_server_by_itself(elsewhere):
    here, again, there = Once.defer(7), Once.defer(7), Once.using(queue="critical").defer(7)

    assert (again.id, again.duplicate) == (here.id, True)
    assert not there.duplicate


def test_many_jobs_of_one_call_are_on_one_server(elsewhere, valkey):
    WriteNote.defer_many([(str(n),) for n in range(5)], queue="critical")

    with elsewhere.client() as far, valkey.client() as near:
        assert (far.llen("rq:queue:critical"), near.dbsize()) == (5, 0)


def test_an_unknown_queue_is_refused():
    with pytest.raises(ImproperlyConfigured, match="REDIS_URLS names urgent, but the queues are: critical, default"):
        rq_queues("redis://localhost", {"urgent": "redis://other"})
