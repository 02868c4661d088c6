"""JOBS["OUTBOX_KEEP"] = "ended": rows stay until their jobs have ended, so Redis may lose everything."""

from datetime import timedelta

import pytest
from django.db import transaction

from jobs import control, queues
from jobs.job import JobState, MandateJob
from jobs.models import Unsent
from jobs.outbox import rows as outbox
from jobs.outbox.relay import relays
from tests.sample.commands.atomic import WriteOnce
from tests.sample.commands.durable import KeepOnce, KeepRow, KeepTrace
from tests.sample.commands.notes import Fail, WriteNote
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def keep(settings):
    settings.JOBS = settings.JOBS | {"OUTBOX_KEEP": "ended"}


def queued(queue="default"):
    return queues.get_queue(queue).job_ids


def notes():
    return [note.text for note in Note.objects.order_by("pk")]


@pytest.fixture
def drain():
    def drained():
        return sum(relay.drain() for relay in relays())

    return drained


@pytest.fixture
def sweep():
    def swept():
        for relay in relays():
            after = 0
            while after := relay.sweep(after):
                pass

    return swept


def test_outside_a_transaction_too_the_row_is_inserted_first_and_marked_when_it_is_sent(rows):
    job = KeepRow.defer("x")
    assert (rows(), queued()) == ([job.id], [job.id])
    assert Unsent.objects.get().sent_at is not None
    with transaction.atomic():
        other = KeepRow.defer("y")
    assert (rows(), queued()) == ([job.id, other.id], [job.id, other.id])


def test_an_atomic_command_deletes_its_row_in_its_own_commit_so_it_is_not_sent_again(
    rows, die_after_commit, sweep, valkey
):
    WriteOnce.defer("a", durable=True)
    die_after_commit()
    assert (rows(), notes()) == ([], ["a"])

    valkey.client().flushall()
    sweep()
    assert queued() == []


def test_it_goes_when_its_job_has_ended(worker, rows, drain):
    KeepTrace.defer("x")
    job = KeepRow.defer("y")
    worker.run()
    assert len(rows()) == 2
    assert drain() == 2
    assert (rows(), job.connection.exists("jobs:outbox:ended")) == ([], 0)


def ends():
    """How a job may end, and a function that makes it so."""
    yield "dead", Fail, lambda job, worker: worker.run()
    yield "cancelled", KeepRow, lambda job, worker: job.cancel()
    yield "deleted", KeepRow, lambda job, worker: job.delete()
    yield "cleared", KeepRow, lambda job, worker: list(control.clear(job.origin, job.created_at + timedelta(days=365)))
    yield "lost its payload", KeepRow, lambda job, worker: (job.connection.hdel(job.key, "data"), worker.run())


@pytest.mark.parametrize(("name", "command", "end"), [pytest.param(*each, id=each[0]) for each in ends()])
def test_every_end_is_reported(name, command, end, worker, rows, drain):
    job = command.defer("x", durable=True)
    waiting = MandateJob.fetch(job.id, connection=job.connection)
    end(waiting, worker)
    assert (drain(), rows()) == (1, [])


def test_a_retry_is_no_end(worker, rows, drain):
    KeepRow.defer("x")
    job = MandateJob(queued()[0], connection=worker.client)
    control.cancel(job)
    assert drain() == 1
    assert rows() == []


def test_a_server_that_lost_everything_loses_no_durable_job(valkey, worker, rows, sweep, drain):
    done, ready = KeepRow.defer("done"), None
    worker.run()
    drain()
    ready = KeepRow.defer("ready")
    later = KeepRow.defer("later", wait=60)
    after = KeepTrace.defer("after", prereq_jobs=[ready])
    next_one = KeepRow.defer("next", prereq_jobs=[done])  # of one that has ended, and has no row
    plain = WriteNote.defer("plain")
    valkey.clean()
    sweep()
    assert queued() == [ready.id, next_one.id]
    assert (later.state, after.state, plain.state) == (JobState.SCHEDULED, JobState.WAITING, None)
    worker.run()
    drain()
    assert sorted(notes()) == ["after", "done", "next", "ready"]
    assert rows() == [later.id]


def test_what_redis_still_has_is_not_sent_again(worker, rows, sweep, drain):
    KeepTrace.defer("x")
    waiting = KeepRow.defer("y", wait=60)
    worker.run()
    sweep()  # the first has ended, which is reported and not drained
    drain()
    sweep()
    worker.run()
    assert (notes(), rows()) == (["x"], [waiting.id])


def test_what_ended_without_a_report_goes_with_the_sweep(worker, rows, sweep):
    job = KeepTrace.defer("x")
    job.connection.delete(job.key)  # as RQ's tools do
    job.connection.lrem("rq:queue:low", 0, job.id)
    sweep()
    worker.run()
    assert (rows(), notes()) == ([], [])


def test_a_job_that_ends_while_the_sweep_looks_is_not_sent_again(monkeypatch, worker, rows, sweep, drain):
    """The row is read, then the job ends, is drained, and even its mark has expired."""
    job = KeepTrace.defer("x")
    kept = outbox.kept

    def read_and_end(*args):
        read = kept(*args)
        worker.run()
        drain()
        job.connection.delete(f"jobs:sent:{job.id}")
        return read

    monkeypatch.setattr(outbox, "kept", read_and_end)
    sweep()
    monkeypatch.undo()
    worker.run()
    assert (notes(), rows()) == (["x"], [])


def test_a_process_that_stops_between_the_two_steps_of_a_drain_repeats_them(monkeypatch, worker, rows, drain, sweep):
    KeepTrace.defer("x")
    worker.run()
    remove = outbox.remove
    monkeypatch.setattr(outbox, "remove", lambda ids: (remove(ids), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        drain()
    monkeypatch.undo()
    sweep()
    assert (drain(), rows(), queued("low")) == (1, [], [])


def test_a_unique_duplicate_has_ended_at_once(worker, rows, sweep, drain):
    KeepOnce.defer("x")
    KeepOnce.defer("x")
    sweep()
    worker.run()
    drain()
    assert (notes(), rows()) == (["x"], [])
