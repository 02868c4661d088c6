"""Atomic commands in a worker: their effects, their receipt and their end happen together, or not at all."""

import asyncio
import threading
import uuid

import django_rq
import pytest
from django.db import OperationalError, connection, connections, transaction

from jobs import control
from jobs.attempts.interrupt import TimedOut
from jobs.attempts.outcomes import Committed, Retried
from jobs.broker.connections import get_connection
from jobs.models import Receipt
from jobs.outbox import receipts
from tests.jobs.outbox.conftest import AttemptInThread
from tests.jobs.worker import eventually
from tests.sample.commands.atomic import Planned, Remove, WriteOnce, WriteOnceElsewhere
from tests.sample.commands.scenes import CancelItself
from tests.sample.models import Folder, Note

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def texts(alias="default"):
    return sorted(Note.objects.using(alias).values_list("text", flat=True))


def names(job):
    return [event.name for event in job.history]


def assert_nothing_is_left():
    assert (texts(), Receipt.objects.count(), Folder.objects.count()) == ([], 0, 0)


def test_its_effects_its_receipt_and_its_end_are_one(worker):
    job = WriteOnce.defer("a")
    assert worker.run() == 1

    (receipt,) = Receipt.objects.all()
    assert (str(receipt.pk), receipt.other_id, receipt.forgotten_at) == (job.id, None, None)
    assert (texts(), job.state, job.return_value()) == (["a"], "finished", {"note": Note.objects.get().pk})
    assert names(job) == ["queued", "started", "finished"]


class TestRolledBack:
    def test_a_failure_leaves_nothing_and_its_retry_happens_once(self, worker, calls):
        job = WriteOnce.defer("a", "fail_once")
        worker.run()
        assert_nothing_is_left()
        assert (job.state, calls) == ("retrying", ["on_retry, outside"])

        worker.hurry().run()
        assert (job.state, texts(), Receipt.objects.count()) == ("finished", ["a"], 1)

    def test_a_requeue_leaves_nothing_and_the_next_attempt_happens_once(self, worker, calls):
        job = WriteOnce.defer("a", "requeue")
        assert worker.step()
        assert_nothing_is_left()
        assert (job.state, calls) == ("queued", [])

        worker.run()
        assert (job.state, texts(), Receipt.objects.count()) == ("finished", ["a"], 1)

    @pytest.mark.parametrize(
        ("how", "state", "hooks"),
        [
            ("discard", "discarded", ["on_discard, outside"]),
            ("fail", "dead", ["on_retry, outside", "on_dead, outside"]),
            ("generate", "dead", ["on_retry, outside", "on_dead, outside"]),
            ("mark_for_rollback", "dead", ["on_retry, outside", "on_dead, outside"]),
        ],
    )
    def test_a_bad_end_leaves_nothing(self, how, state, hooks, worker, calls):
        job = WriteOnce.defer("a", how)
        worker.run()
        worker.hurry().run()
        assert_nothing_is_left()
        assert (job.state, calls) == (state, hooks)

    def test_what_it_has_deferred_is_not_written(self, worker):
        job = WriteOnce.defer("a", "defer_another_and_fail")
        worker.step()
        assert get_connection("default").llen("rq:queue:default") == 0
        assert_nothing_is_left()
        assert job.state == "retrying"

    def test_a_transaction_that_the_database_has_rolled_back_does_not_count_as_a_success(self, worker):
        job = WriteOnce.defer("a", "roll_back_and_swallow")
        worker.run()
        assert_nothing_is_left()
        assert "has lost its receipt" in job.reason

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="there an error ends the transaction: DB=postgres")
    def test_nor_does_one_that_a_swallowed_error_has_broken(self, worker):
        job = WriteOnce.defer("a", "swallow_a_broken_transaction")
        worker.run()
        assert_nothing_is_left()
        assert job.reason.startswith("TransactionManagementError")

    def test_a_savepoint_that_fails_takes_back_its_own_alone(self, worker):
        job = WriteOnce.defer("a", "fail_in_a_savepoint")
        worker.run()
        assert (job.state, texts(), Receipt.objects.count()) == ("finished", ["a", "after it"], 1)


class TestCommitted:
    def test_an_attempt_after_it_finishes_with_its_result_and_runs_nothing(self, worker, calls, die_after_commit):
        job = WriteOnce.defer("a", "tell_after_the_commit")
        assert isinstance(die_after_commit(), Committed)
        assert (job.state, texts(), calls) == ("queued", ["a"], ["committed"])

        assert worker.run() == 1
        assert (job.state, job.return_value()) == ("finished", {"note": Note.objects.get().pk})
        assert (texts(), calls, Receipt.objects.count()) == (["a"], ["committed"], 1)

    def test_an_attempt_that_could_not_be_built_any_more_finishes_too(self, worker, die_after_commit):
        job = Remove.defer(Note.objects.create(text="a"))
        die_after_commit()
        worker.run()
        assert (job.state, job.return_value(), texts()) == ("finished", "removed", [])

    def test_a_callback_that_raises_after_the_commit_does_not_undo_it(self, worker, calls, caplog):
        job = WriteOnce.defer("a", "fail_after_the_commit")
        worker.run()
        assert (job.state, texts(), calls) == ("finished", ["a"], [])
        (logged,) = [record for record in caplog.records if record.levelname == "ERROR"]
        assert "it has committed" in logged.message
        assert logged.exc_info[0] is Planned

    def test_what_it_has_deferred_is_written_at_the_commit(self, worker, calls):
        WriteOnce.defer("a", "defer_another")
        worker.run()
        assert calls == ["None"]
        assert texts() == ["a", "another", "follows a"]

    def test_a_process_that_it_has_forked_commits_nothing(self, worker_process):
        job = WriteOnce.defer("a", "fork")
        assert worker_process("default", burst=True, concurrency=1).wait() == 0
        assert (job.state, texts(), Receipt.objects.count()) == ("finished", ["a"], 1)


class TestCancelled:
    def test_after_its_commit_the_job_says_cancelled_and_its_history_committed(self, worker):
        job = WriteOnce.defer("a", "cancel")
        worker.run()
        assert (job.state, texts()) == ("cancelled", ["a"])
        assert names(job)[-2:] == ["cancelled", "committed"]

        Note.objects.all().delete()
        control.retry(job)
        worker.run()
        assert (job.state, texts(), names(job)[-1]) == ("finished", [], "finished")

    def test_before_its_commit_nothing_is_left(self, worker_process):
        job = WriteOnce.defer("a", "spin")
        worker = worker_process("default", concurrency=1, env={"LOG_LEVEL": "INFO"})
        eventually(lambda: "performing" in worker.output)
        control.cancel(job)
        eventually(lambda: f"interrupted sample.WriteOnce (job {job.id}, attempt 1): it was cancelled" in worker.output)
        worker.stop()
        assert_nothing_is_left()
        assert names(job)[-1] == "cancelled"

    def test_of_a_plain_command_its_history_says_nothing_of_that(self, worker):
        job = CancelItself.defer()
        worker.run()
        assert (job.state, names(job)[-1]) == ("cancelled", "cancelled")


class TestTimeOut:
    def test_it_leaves_nothing(self, worker_process, monkeypatch):
        job = WriteOnce.using(wait=0).defer("a", "spin")
        get_connection("default").hset(job.key, "timeout", "0.2")
        worker = worker_process("default", concurrency=1)
        eventually(lambda: job.state == "retrying")
        worker.stop()
        assert "TimedOut" in job.reason
        assert_nothing_is_left()


class TestTwoAtOnce:
    """The first attempt stalls in `call`, its worker is taken for dead, and the job is claimed again."""

    @pytest.fixture(autouse=True, params=["read committed", "repeatable read"])
    def isolation(self, request, monkeypatch):
        options = connections.settings["default"]["OPTIONS"]
        if connection.vendor == "postgresql":
            from django.db.backends.postgresql.psycopg_any import IsolationLevel

            monkeypatch.setitem(options, "isolation_level", IsolationLevel[request.param.replace(" ", "_").upper()])
        elif connection.vendor == "mysql":
            monkeypatch.setitem(options, "isolation_level", request.param)
        elif request.param == "repeatable read":
            pytest.skip("SQLite has one level")

    @pytest.fixture
    def stalled(self, worker, claim_again):
        """The two attempts: the first within `call`, the second waiting for its receipt."""
        inside, go_on, ends = threading.Event(), threading.Event(), []

        def stall(command):
            inside.set()
            go_on.wait(30)
            if ends:
                raise ends[0]

        WriteOnce.plans["stall"] = stall
        job = WriteOnce.defer("a", "stall")
        first = AttemptInThread(worker.claim())
        assert inside.wait(30)
        inside.clear()
        second = AttemptInThread(claim_again())
        yield job, first, second, go_on, ends
        go_on.set()
        first.join()
        second.join()
        del WriteOnce.plans["stall"]

    def test_the_second_waits_and_finishes_with_the_result_of_the_first(self, stalled, calls):
        _, first, second, go_on, _ = stalled
        second.join(0.3)
        assert second.is_alive()
        go_on.set()
        assert isinstance(first.result(), Committed)
        assert isinstance(second.result(), Committed)
        assert second.result().result == first.result().result
        assert (texts(), Receipt.objects.count(), calls) == (["a"], 1, [])

    def test_the_second_takes_the_place_of_the_first_that_fails(self, stalled):
        _, first, second, go_on, ends = stalled
        ends.append(Planned())
        WriteOnce.plans["stall"] = lambda command: None  # the next time
        go_on.set()
        # If the second commits before the first has asked for the receipt, both finish.
        assert isinstance(first.result(), Retried | Committed)
        assert isinstance(second.result(), Committed)
        assert (texts(), Receipt.objects.count()) == (["a"], 1)

    @pytest.mark.skipif(connection.vendor == "sqlite", reason="a wait for SQLite's lock cannot be interrupted")
    def test_the_second_waits_no_longer_than_its_time_out(self, stalled):
        _, first, second, go_on, _ = stalled

        def interrupted():
            second.interruptible.interrupt(second.claim, TimedOut)
            return not second.is_alive()

        eventually(interrupted)
        assert isinstance(second.result(), Retried)
        assert second.result().reason.startswith("TimedOut")
        go_on.set()
        assert isinstance(first.result(), Committed)
        assert (texts(), Receipt.objects.count()) == (["a"], 1)


@pytest.mark.skipif(connection.vendor != "sqlite", reason="about SQLite's lock of the whole database")
def test_on_sqlite_one_that_does_not_get_the_lock_is_retried_in_seconds(worker, monkeypatch):
    monkeypatch.setitem(connections.settings["default"]["OPTIONS"], "timeout", 0.05)
    job = WriteOnce.defer("a")
    with transaction.atomic():
        Note.objects.create(text="holds the lock")
        outcome = AttemptInThread(worker.claim()).result()
    assert (outcome.reason, outcome.delay <= 4, texts()) == (
        "OperationalError: database is locked",
        True,
        ["holds the lock"],
    )
    assert job.state == "running"


class TestAliases:
    def test_the_transaction_and_the_receipt_are_where_the_alias_says(self, worker):
        job = WriteOnceElsewhere.defer("a")
        worker.run()
        assert (job.state, texts("other"), texts()) == ("finished", ["a"], ["a"])
        assert [str(each.pk) for each in Receipt.objects.using("other")] == [job.id]
        assert Receipt.objects.count() == 0

    def test_other_databases_are_not_covered(self, worker):
        WriteOnceElsewhere.defer("a", fails=True)
        worker.step()
        assert (texts("other"), texts(), Receipt.objects.using("other").count()) == ([], ["a"], 0)

        WriteOnce.defer("b", "write_elsewhere")
        worker.step()
        assert (texts("other"), texts(), Receipt.objects.count()) == (["b"], ["a"], 0)


class TestInProcess:
    def test_run_is_a_transaction_without_a_receipt(self):
        assert WriteOnce.run("a") == {"note": Note.objects.get().pk}
        with pytest.raises(Planned):
            WriteOnce.run("b", "fail")
        assert (texts(), Receipt.objects.count()) == (["a"], 0)

    def test_arun_is_one_too(self):
        async def run_both():
            await WriteOnce.arun("a")
            with pytest.raises(Planned):
                await WriteOnce.arun("b", "fail")

        asyncio.run(run_both())
        assert (texts(), Receipt.objects.count()) == (["a"], 0)

    def test_within_a_transaction_it_is_a_savepoint(self):
        with transaction.atomic():
            Note.objects.create(text="around")
            with pytest.raises(Planned):
                WriteOnce.run("b", "fail")
        assert texts() == ["around"]


class TestIds:
    @pytest.mark.parametrize(
        "job_id",
        [
            "clean-up-20261129T120000Z",
            "eu/1 %41 ü\u2028\n7",
            "x" * 5_000,
            "9E84F838-426F-432F-8EFA-74674A2FCEC9",
            str(uuid.UUID(int=7)),
        ],
    )
    def test_a_job_with_any_id_has_a_receipt(self, job_id, worker, die_after_commit):
        job = WriteOnce.defer("a")
        client = get_connection("default")
        client.rename(job.key, f"rq:job:{job_id}")
        client.lset("rq:queue:default", 0, job_id)
        die_after_commit()
        assert worker.run() == 1
        assert (texts(), client.hget(f"rq:job:{job_id}", "status")) == (["a"], b"finished")
        assert bytes(Receipt.objects.get().other_id) == job_id.encode()
        assert receipts._known([receipts._job_id(Receipt.objects.get())]) == [True]

    def test_ids_that_differ_in_case_or_in_spaces_are_two_jobs(self):
        ids = [b"run-a", b"run-A", b"run-a ", b"\xff", str(uuid.UUID(int=1)).encode(), uuid.UUID(int=1).hex.encode()]
        assert len({receipts.key_of(each) for each in ids}) == len(ids)


def test_without_autocommit_it_is_committed_too(worker, monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "AUTOCOMMIT", False)
    job = WriteOnce.defer("a", "defer_another")
    connection.commit()
    assert isinstance(AttemptInThread(worker.claim()).result(), Committed)
    monkeypatch.undo()
    assert (texts(), Receipt.objects.count(), job.state) == (["a"], 1, "running")
    assert get_connection("default").llen("rq:queue:default") == 2


def test_a_database_that_is_away_when_the_receipt_is_read_leaves_the_error_as_it_is(worker, monkeypatch, caplog):
    def away(*args):
        raise OperationalError("away")

    monkeypatch.setattr(receipts, "find", away)
    job = WriteOnce.defer("a", "fail")
    worker.step()
    assert (job.state, job.reason) == ("retrying", "Planned: as planned")
    assert "cannot be read: away" in caplog.text


def test_rqs_own_worker_keeps_the_receipt_too(worker):
    from rq import SimpleWorker
    from rq.job import Job
    from rq.serializers import JSONSerializer

    client = django_rq.get_connection("default")  # RQ's worker gives the client it gets time-outs of minutes
    job = WriteOnce.defer("a")
    for _ in range(2):
        SimpleWorker(["default"], connection=client, serializer=JSONSerializer).work(burst=True)
        client.hset(job.key, "status", "queued")
        client.rpush("rq:queue:default", job.id)
    assert texts() == ["a"]
    assert Job.fetch(job.id, connection=client, serializer=JSONSerializer).return_value() == {
        "note": Note.objects.get().pk
    }
