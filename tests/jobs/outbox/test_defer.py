"""`defer` of durable jobs: in the database first, and in Redis after the commit, whatever happens in between."""

import logging
import signal
from contextlib import contextmanager

import django_rq
import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext

from jobs import queues
from jobs.errors import DurabilityError, PrerequisiteError, RedisUnavailableError
from jobs.job import JobState, MandateJob
from jobs.models import Unsent
from jobs.outbox import hooks
from jobs.outbox import rows as outbox
from tests.sample import functions
from tests.sample.commands.durable import KeepOnce, KeepRow, KeepTrace
from tests.sample.commands.notes import WriteNote
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


class RollbackError(Exception):
    pass


class StopError(BaseException):
    """As if the process were killed there."""


def queued(queue="default"):
    return queues.get_queue(queue).job_ids


@pytest.fixture
def calls(valkey):
    """The calls of scripts since the test began."""
    with valkey.client() as client:
        client.config_resetstat()

        def number():
            stats = client.info("commandstats")
            return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))

        yield number


# --- in a transaction ------------------------------------------------------------------------


def test_in_a_transaction_it_is_a_row_and_at_the_commit_a_job(rows):
    with transaction.atomic():
        job = KeepRow.defer("x")
        assert rows() == [job.id]
        assert (job.state, queued()) == (JobState.UNSENT, [])
        row = Unsent.objects.get()
        assert (row.queue, row.due, row.sent_at) == ("default", None, None)
    assert (rows(), queued(), job.state) == ([], [job.id], JobState.QUEUED)
    assert job.connection.ttl(f"jobs:sent:{job.id}") == pytest.approx(86_400, abs=5)


def test_a_rollback_of_the_transaction_or_a_savepoint_leaves_neither(rows, relay):
    with pytest.raises(RollbackError), transaction.atomic():
        job = KeepRow.defer("x")
        raise RollbackError
    with transaction.atomic(), pytest.raises(RollbackError), transaction.atomic():
        KeepRow.defer("y")
        raise RollbackError
    assert (rows(), relay(), queued(), job.state) == ([], 0, [], None)


def test_all_jobs_of_a_commit_go_in_one_call_durable_or_not(calls, rows):
    with transaction.atomic():
        jobs = [KeepRow.defer("a"), WriteNote.defer("b"), *KeepRow.defer_many([("c",), ("d",)]), WriteNote.defer("e")]
    assert calls() == 1
    assert (queued(), rows()) == ([job.id for job in jobs], [])


def test_calls_of_other_code_keep_their_place_among_jobs(calls):
    places = []
    with transaction.atomic():
        WriteNote.defer("a")
        transaction.on_commit(lambda: places.append(len(queued())))
        WriteNote.defer("b")
    assert (places, len(queued())) == ([1], 2)


def test_each_level_of_a_transaction_has_a_hook_of_its_own(calls):
    with transaction.atomic():
        first = KeepRow.defer("a")
        with transaction.atomic():
            second = KeepRow.defer("b")
            third = KeepRow.defer("c")
        with pytest.raises(RollbackError), transaction.atomic():
            KeepRow.defer("d")
            raise RollbackError
    assert (calls(), queued()) == (2, [first.id, second.id, third.id])


def test_jobs_of_several_queues_go_with_one_commit_too(rows):
    with transaction.atomic():
        one, other, third = KeepRow.defer("a"), KeepTrace.defer("b"), KeepRow.defer("c")
    assert (queued(), queued("low"), rows()) == ([one.id, third.id], [other.id], [])


def test_the_commit_stands_and_nothing_is_raised_when_redis_is_away(valkey, rows, relay):
    valkey.kill()
    with transaction.atomic():
        note = Note.objects.create(text="x")
        job = KeepRow.defer("x")
    assert (rows(), job.state) == ([job.id], JobState.UNSENT)
    assert Note.objects.filter(pk=note.pk).exists()
    valkey.start()
    assert relay() == 1
    assert (rows(), queued(), job.state) == ([], [job.id], JobState.QUEUED)


def test_one_that_is_not_durable_raises_as_before_and_the_durable_one_of_the_same_commit_is_kept(valkey, rows):
    valkey.kill()
    with pytest.raises(RedisUnavailableError), transaction.atomic():
        job = KeepRow.defer("x")
        WriteNote.defer("y")
    assert rows() == [job.id]


@pytest.fixture
def tries(monkeypatch):
    """Counts the calls of scripts that a client has tried, each of which a server that hangs costs a time-out."""
    run, tried = queues.run_script, []

    def run_and_count(*args, **options):
        tried.append(args[1])
        return run(*args, **options)

    monkeypatch.setattr(queues, "run_script", run_and_count)
    return tried


@pytest.fixture
def hanging(valkey, impatient, monkeypatch):
    """A block in which the server accepts what it is sent, and answers nothing."""
    monkeypatch.setattr(hooks, "AWAY", 600.0)

    @contextmanager
    def pause():
        valkey.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            valkey.process.send_signal(signal.SIGCONT)

    return pause()


def test_fifty_in_a_transaction_with_a_server_that_hangs_take_one_time_out(hanging, rows, tries):
    with hanging:
        with transaction.atomic():
            for number in range(50):
                KeepRow.defer(str(number))
        with transaction.atomic():
            with transaction.atomic():
                KeepRow.defer("in another level")
            KeepRow.defer("and another")
    assert (len(tries), len(rows())) == (1, 52)


@pytest.mark.parametrize("place", ["before the commit", "before the push", "before the delete"])
def test_a_process_that_stops_at_a_step_loses_and_repeats_nothing(place, monkeypatch, rows, relay, worker):
    def stop(*args):
        raise StopError

    if place == "before the push":
        monkeypatch.setattr(hooks, "send", stop)
    if place == "before the delete":
        monkeypatch.setattr(outbox, "sent", stop)
    with pytest.raises(StopError), transaction.atomic():
        Note.objects.create(text="committed")
        KeepTrace.defer("run")
        if place == "before the commit":
            stop()
    monkeypatch.undo()
    worker.run()
    relay()
    worker.run()
    expected = [] if place == "before the commit" else ["committed", "run"]
    assert sorted(note.text for note in Note.objects.all()) == expected
    assert rows() == []


def test_without_autocommit_it_follows_the_commit(rows, relay):
    transaction.set_autocommit(False)
    try:
        KeepRow.defer("dropped")
        transaction.rollback()
        with transaction.atomic():
            Note.objects.create(text="x")
            job = KeepRow.defer("kept")
        transaction.commit()
        assert queued() == [job.id]
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert relay() == 1  # to no effect
    assert (rows(), queued()) == ([], [job.id])


def test_a_database_that_refuses_the_insert_fails_the_transaction(monkeypatch, rows):
    def refuse(execute, sql, params, many, context):
        if "INSERT" in sql and "jobs_unsent" in sql:
            raise DatabaseError("disk full")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(refuse), pytest.raises(DatabaseError), transaction.atomic():
        Note.objects.create(text="x")
        KeepRow.defer("x")
    assert (rows(), queued(), Note.objects.count()) == ([], [], 0)


# --- outside a transaction -------------------------------------------------------------------


def test_outside_a_transaction_it_is_pushed_and_no_query_is_made():
    with CaptureQueriesContext(connection) as queries:
        job = KeepRow.defer("x")
    assert (len(queries), queued()) == (0, [job.id])


def test_outside_a_transaction_it_is_inserted_if_the_push_fails(valkey, rows, relay):
    valkey.kill()
    job = KeepRow.defer("x")
    many = KeepRow.defer_many([("y",), ("z",)])
    assert rows() == [job.id, *(each.id for each in many)]
    valkey.start()
    assert relay() == 3
    assert queued() == [job.id, *(each.id for each in many)]


def test_after_a_failure_the_next_ones_do_not_wait_for_a_time_out(hanging, rows, tries):
    with hanging:
        for number in range(20):
            KeepRow.defer(str(number))
    assert (len(tries), len(rows())) == (1, 20)


def test_a_full_server_refuses_it_and_it_is_inserted(valkey, rows, relay):
    with valkey.client() as client:
        client.config_set("maxmemory", 1)
        job = KeepRow.defer("x")
        client.config_set("maxmemory", 0)
    assert (rows(), queued()) == ([job.id], [])
    assert (relay(), rows(), queued()) == (1, [], [job.id])


# --- which jobs are durable ------------------------------------------------------------------


def test_the_option_of_defer_wins_over_the_class_and_that_over_the_setting(settings, rows):
    with transaction.atomic():
        WriteNote.defer("x", durable=True)
        WriteNote.using(durable=True).defer("x")
        WriteNote.defer_many([("x",)], durable=True)
        assert len(rows()) == 3
        KeepRow.defer("x", durable=False)
        assert len(rows()) == 3
    settings.JOBS = settings.JOBS | {"DURABLE": True}
    with transaction.atomic():
        WriteNote.defer("x")
        WriteNote.defer("x", durable=False)
        assert len(rows()) == 1
    with pytest.raises(ValueError, match="durable='yes' is impossible. Give True or False."):
        WriteNote.defer("x", durable="yes")


def test_without_an_outbox_it_is_refused_with_the_setting_to_set(settings):
    settings.JOBS = settings.JOBS | {"OUTBOX": None}
    with pytest.raises(ImproperlyConfigured, match="Durable jobs need the outbox"):
        KeepRow.defer("x")
    settings.JOBS = settings.JOBS | {"OUTBOX": "nowhere"}
    with pytest.raises(ImproperlyConfigured, match="'nowhere', which is no database. DATABASES has: default, other"):
        KeepRow.defer("x")


def test_a_job_that_is_not_durable_makes_no_query_and_leaves_no_key(settings, valkey):
    for jobs in (settings.JOBS | {"OUTBOX": None}, settings.JOBS):
        settings.JOBS = jobs
        with CaptureQueriesContext(connection) as queries:
            job = WriteNote.defer("x")
            with transaction.atomic():
                WriteNote.defer("x")
        assert not [query for query in queries if "jobs_unsent" in query["sql"]]
        with valkey.client() as client:
            assert set(client.hgetall(job.key)) == {b"created_at", b"enqueued_at", b"origin", b"status", b"data"}
            assert not client.keys("jobs:*")


def test_of_a_plain_rq_function_it_is_refused_with_the_reason():
    queue = django_rq.get_queue("default")
    with pytest.raises(DurabilityError, match="add is a plain RQ function, and durable=True an option of commands"):
        queue.enqueue(functions.add, 1, 2, durable=True)
    assert queue.enqueue(takes_durable, durable=True).kwargs == {"durable": True}


def takes_durable(durable):
    return durable


# --- two databases ---------------------------------------------------------------------------


def test_with_a_transaction_of_another_database_a_durable_class_is_refused(rows):
    with transaction.atomic(using="other"), pytest.raises(DurabilityError, match="one of 'other' is open, too"):
        KeepRow.defer("x")
    with transaction.atomic(), transaction.atomic(using="other"), pytest.raises(DurabilityError):
        WriteNote.defer("x", durable=True)
    assert rows() == []


def test_in_a_coroutine_below_a_transaction_it_is_refused_and_adefer_follows_that(rows):
    async def defer():
        with pytest.raises(DurabilityError, match=r"Use `await \.\.\.adefer\(\)`"):
            KeepRow.defer("x")
        return await KeepRow.adefer("x")

    with transaction.atomic():
        job = async_to_sync(defer)()
        assert (rows(), queued()) == ([job.id], [])
    assert (rows(), queued()) == ([], [job.id])


def test_where_the_setting_alone_makes_it_durable_it_is_deferred_as_a_plain_one(settings, valkey, rows, caplog):
    settings.JOBS = settings.JOBS | {"DURABLE": True}
    with caplog.at_level(logging.WARNING), transaction.atomic(using="other"):
        job = WriteNote.defer("x")
        assert (rows(), queued()) == ([], [])
    assert queued() == [job.id]
    assert "sample.WriteNote is deferred, but is not durable: a transaction of 'other' is open" in caplog.text
    with valkey.client() as client:
        assert client.zrange("jobs:outbox:plain", 0, -1) == [b"sample.WriteNote"]


def test_it_follows_the_transaction_of_the_outbox_alone(settings):
    settings.JOBS = settings.JOBS | {"OUTBOX": "other"}
    with transaction.atomic(using="other"):
        job = KeepRow.defer("x")
        assert Unsent.objects.using("other").count() == 1
    assert (queued(), Unsent.objects.using("other").count()) == ([job.id], 0)


# --- sent twice ------------------------------------------------------------------------------


def test_a_duplicate_is_marked_as_sent_and_is_the_same_duplicate_when_sent_again(monkeypatch, rows, relay, worker):
    first = KeepOnce.defer("x")
    monkeypatch.setattr(outbox, "sent", lambda ids: None)
    with transaction.atomic():
        second = KeepOnce.defer("x")
        id = second.id
    monkeypatch.undo()
    assert (second.id, second.duplicate) == (first.id, True)
    assert first.connection.get(f"jobs:sent:{id}") == first.id.encode()
    worker.run()  # the first has ended: without the mark, the second would be written now
    assert (relay(), rows(), queued()) == (1, [], [])


def test_one_that_was_deleted_is_not_sent_again(monkeypatch, rows, relay):
    monkeypatch.setattr(outbox, "sent", lambda ids: None)
    with transaction.atomic():
        job = KeepRow.defer("x")
    monkeypatch.undo()
    job.delete()
    job.connection.delete(f"jobs:sent:{job.id}")
    assert (relay(), rows(), queued()) == (1, [], [])


def test_a_write_that_fails_leaves_no_mark(monkeypatch, rows, relay):
    first = WriteNote.defer_many([("x",)] * 101)
    monkeypatch.setattr(queues, "announce", lambda *args: None)  # as if what it writes had expired
    job = KeepRow.defer("x", prereq_jobs=[each.id for each in first])
    assert rows() == [job.id]
    assert job.connection.exists(f"jobs:sent:{job.id}") == 0
    monkeypatch.undo()
    assert (relay(), rows(), job.state) == (1, [], JobState.WAITING)


# --- prerequisites ---------------------------------------------------------------------------


@pytest.mark.parametrize("first_command", [KeepRow, KeepTrace])
def test_a_dependent_waits_for_a_durable_prerequisite_of_the_same_commit(first_command, worker, rows):
    with transaction.atomic():
        first = first_command.defer("first")
        second = KeepRow.defer("second", prereq_jobs=[first])
    assert second.state is JobState.WAITING
    worker.run()
    assert [note.text for note in Note.objects.order_by("pk")] == ["first", "second"]


@pytest.mark.parametrize("sent_first", ["prerequisite", "dependent"])
def test_a_process_killed_between_the_pushes_leaves_a_dependent_neither_waiting_nor_early(
    sent_first, monkeypatch, worker, relay, rows
):
    write, order = queues.write, []

    def write_one(jobs, handles):
        pairs = list(zip(jobs, handles, strict=True))
        pair = pairs[0] if sent_first == "prerequisite" else pairs[-1]
        write([pair[0]], [pair[1]])
        raise StopError

    monkeypatch.setattr(hooks, "send", lambda jobs, handles, _: write_one(jobs, handles))
    with pytest.raises(StopError), transaction.atomic():
        first = KeepTrace.defer("first")
        KeepRow.defer("second", prereq_jobs=[first])
    monkeypatch.undo()
    worker.run()
    order = [note.text for note in Note.objects.order_by("pk")]
    assert order == (["first"] if sent_first == "prerequisite" else [])
    relay()
    worker.run()
    assert [note.text for note in Note.objects.order_by("pk")] == ["first", "second"]


def test_by_its_id_alone_an_unsent_prerequisite_is_known_too(valkey, worker, relay):
    with transaction.atomic():
        first = KeepTrace.defer("first")
        valkey.kill()
    second = KeepRow.defer("second", prereq_jobs=[first.id])
    valkey.start()
    row = Unsent.objects.get(job_id=second.id)
    Unsent.objects.filter(job_id=first.id).update(id=row.pk + 10)  # the second is sent first
    relay()
    worker.run()
    assert [note.text for note in Note.objects.order_by("pk")] == ["first", "second"]


def test_a_plain_job_waits_for_a_durable_prerequisite_that_is_unsent(valkey, worker, relay):
    with transaction.atomic():
        first = KeepTrace.defer("first")
        valkey.kill()
    valkey.start()
    second = WriteNote.defer("second", prereq_jobs=[first])
    worker.run()
    assert (second.state, Note.objects.count()) == (JobState.BLOCKED, 0)
    relay()
    worker.run()
    assert [note.text for note in Note.objects.order_by("pk")] == ["first", "second"]


def test_a_prerequisite_that_turned_out_a_duplicate_stands_for_the_other_job(valkey, worker, relay):
    other = KeepOnce.defer("first")
    valkey.kill()
    first = KeepOnce.defer("first")
    second = KeepRow.defer("second", prereq_jobs=[first])
    valkey.start()
    relay()
    assert MandateJob(second.id, connection=second.connection).state is JobState.WAITING
    assert other.dependents == {second.id}
    worker.run()
    assert [note.text for note in Note.objects.order_by("pk")] == ["first", "second"]


def test_the_prerequisites_are_judged_at_the_push_and_the_reason_is_kept(valkey, relay):
    first = WriteNote.defer("first")
    first.cancel()
    second = KeepRow.defer("second", prereq_jobs=[first])
    assert second.state is JobState.BLOCKED
    (event,) = [event for event in second.history if event.name == "blocked"]
    assert event.reason == f"Job {first.id} cannot be a prerequisite: it was cancelled, so it will never finish."


def test_a_prerequisite_that_is_neither_durable_nor_written_is_refused():
    with transaction.atomic():
        first = WriteNote.defer("first")
        with pytest.raises(PrerequisiteError, match="it is not durable, and not written yet"):
            KeepRow.defer("second", prereq_jobs=[first])


def test_very_many_durable_prerequisites(worker, rows):
    with transaction.atomic():
        first = KeepRow.defer_many([(str(number),) for number in range(150)])
        last = KeepRow.defer("last", prereq_jobs=first)
        assert len(rows()) == 151
    assert last.state is JobState.WAITING
    worker.run()
    assert Note.objects.order_by("pk").last().text == "last"
    assert Note.objects.count() == 151


# --- copies ----------------------------------------------------------------------------------


def test_a_copy_of_a_durable_job_is_durable(worker, rows):
    job = WriteNote.defer("x", durable=True)
    with transaction.atomic():
        made = queues.copy(job)
        assert rows() == [made.id]
    assert rows() == []
    worker.run()
    assert Note.objects.count() == 2
