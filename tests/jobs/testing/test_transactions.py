"""The kit and transactions: inside Django's test cases, with callbacks captured, on two databases, in async code."""

import asyncio

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connections, transaction
from django.test import SimpleTestCase, TestCase, TransactionTestCase

from jobs import MandateJob, runtime
from jobs.testing import JobsTestMixin, Kit
from tests.sample.commands.notes import ShoutNote, WriteNote, WriteNoteSlowly
from tests.sample.commands.original import MyCommand
from tests.sample.models import Note


class RollbackError(Exception):
    pass


class WhatTransactionsDo(JobsTestMixin):
    """The tests for every kind of test case with a database."""

    databases = {"default", "other"}

    def test_a_job_is_seen_at_once(self):
        job = MyCommand.defer("x")

        self.assert_enqueued_with(MyCommand, args=("x",))
        self.assertEqual(job.state, "queued")
        self.assertTrue(job.is_written)

    def test_a_transaction_of_the_code_under_test_is_waited_for(self):
        with transaction.atomic():
            job = MyCommand.defer("x")
            with transaction.atomic():
                MyCommand.defer_many([("y",), ("z",)], wait=60)
            self.assert_no_enqueued_jobs()
            self.assertEqual((job.state, job.is_written), (None, False))

        self.assert_enqueued_jobs(3)
        self.assertEqual(job.state, "queued")

    def test_its_rollback_drops_its_jobs(self):
        for savepoint in (True, False):
            with self.subTest(savepoint=savepoint):
                with self.assertRaises(RollbackError), transaction.atomic():
                    with transaction.atomic(savepoint=savepoint):
                        MyCommand.defer("x")
                    raise RollbackError
                with transaction.atomic():
                    MyCommand.defer("y")
                    transaction.set_rollback(True)
                self.assert_no_enqueued_jobs()

    def test_the_rollback_of_a_savepoint_drops_its_own(self):
        with transaction.atomic():
            with self.assertRaises(RollbackError), transaction.atomic():
                MyCommand.defer("dropped")
                raise RollbackError
            MyCommand.defer("kept")

        self.assert_enqueued_jobs(1)
        self.assert_enqueued_with(MyCommand, args=("kept",))

    def test_a_transaction_of_another_database_is_waited_for_as_well(self):
        with transaction.atomic(using="other"):
            with transaction.atomic():
                MyCommand.defer("x")
            self.assert_no_enqueued_jobs()
        self.assert_enqueued_jobs(1)

        with self.assertRaises(RollbackError), transaction.atomic(using="other"):
            with transaction.atomic():
                MyCommand.defer("y")
            raise RollbackError
        self.assert_enqueued_jobs(1)

    def test_captured_callbacks_and_jobs_are_counted_once(self):
        with self.captured(), transaction.atomic():
            MyCommand.defer("x")
            transaction.on_commit(lambda: MyCommand.defer("y"))

        self.assert_enqueued_jobs(2)

    def test_callbacks_captured_inside_the_transaction_are_counted_once(self):
        with transaction.atomic():
            with self.captured():
                MyCommand.defer("x")
            transaction.on_commit(lambda: None)

        self.assert_enqueued_jobs(1)

    def test_jobs_are_performed_where_the_transaction_ends(self):
        with self.perform_enqueued_jobs():
            with transaction.atomic():
                note = Note.objects.create(text="x")
                ShoutNote.defer(note)
                self.assertEqual(Note.objects.get().text, "x")
            self.assertEqual(Note.objects.get().text, "X!")

    def test_a_durable_transaction_is_one_like_others(self):
        with transaction.atomic(durable=True):
            MyCommand.defer("x")
            self.assert_no_enqueued_jobs()
        self.assert_enqueued_jobs(1)

    @transaction.atomic
    def _defer_decorated(self):
        MyCommand.defer("x")
        self.assert_no_enqueued_jobs()

    def test_a_decorated_function_is_waited_for(self):
        self._defer_decorated()
        self.assert_enqueued_jobs(1)

    async def test_async_code_is_seen(self):
        job = await MyCommand.adefer("x")
        found = self.assert_enqueued_with(MyCommand, args=("x",))
        self.assertEqual(found.id, job.id)

        with self.assert_enqueued_jobs(1):
            await asyncio.gather(sync_to_async(defer_in_transaction)(), asyncio.sleep(0))
        await sync_to_async(self.perform_enqueued_jobs)()
        self.assert_performed_jobs(2)

    async def test_async_code_is_performed_and_so_are_async_commands(self):
        with self.perform_enqueued_jobs(raise_errors=True):
            await WriteNoteSlowly.adefer("x")
            await sync_to_async(self._defer_decorated_and_async)()

        self.assertEqual(await Note.objects.acount(), 2)

    async def test_async_tests_await_the_jobs(self):
        await WriteNoteSlowly.adefer("x")
        await WriteNoteSlowly.adefer("y", wait=60)

        self.assertEqual(await self.aperform_enqueued_jobs(raise_errors=True), 1)
        self.assertEqual(await self.atravel(60), 1)
        self.assertEqual(await Note.objects.acount(), 2)

    @transaction.atomic
    def _defer_decorated_and_async(self):
        WriteNoteSlowly.defer("y")


def defer_in_transaction():
    with transaction.atomic():
        MyCommand.defer("in a transaction")


class InTestCase(WhatTransactionsDo, TestCase):
    """In a transaction that is never committed."""

    def captured(self):
        return self.captureOnCommitCallbacks(execute=True)

    def test_without_a_savepoint_the_tests_transaction_ends(self):
        with self.assertRaises(RollbackError), transaction.atomic(savepoint=False):
            MyCommand.defer("x")
            raise RollbackError
        self.assert_no_enqueued_jobs()
        connections["default"].set_rollback(False)

    def test_captured_callbacks_are_the_codes_own(self):
        with self.captureOnCommitCallbacks() as callbacks, transaction.atomic():
            MyCommand.defer("x")
            transaction.on_commit(lambda: None)

        self.assertEqual(len(callbacks), 1)
        self.assert_enqueued_jobs(1)


class InTransactionTestCase(WhatTransactionsDo, TransactionTestCase):
    """With real transactions."""

    def captured(self):
        return TestCase.captureOnCommitCallbacks(execute=True)


class InSimpleTestCase(JobsTestMixin, SimpleTestCase):
    """Without a database."""

    def test_jobs_are_enqueued_and_performed(self):
        with self.perform_enqueued_jobs():
            job = MyCommand.defer("x")

        self.assertEqual(job.state, "finished")
        self.assertEqual([len(self.enqueued_jobs), len(self.performed_jobs)], [1, 1])
        self.assertEqual(self.jobs.enqueued_jobs, self.enqueued_jobs)

    async def test_async_code_has_its_jobs(self):
        await MyCommand.adefer("x")
        self.assert_enqueued_jobs(1)


class WithTestData(JobsTestMixin, TestCase):
    """Jobs that are enqueued before the tests begin are dropped."""

    @classmethod
    def setUpTestData(cls):
        with transaction.atomic():
            cls.note = Note.objects.create(text="x")
            cls.job = ShoutNote.defer(cls.note)
        cls.second = MyCommand.defer("x", prereq_jobs=[cls.job])

    def setUp(self):
        MyCommand.defer("in setUp")

    def test_each_test_starts_without_jobs(self):
        with transaction.atomic():
            pass
        self.assert_enqueued_jobs(1)
        self.assertEqual((self.job.state, self.second.state), ("queued", "waiting"))
        self.assertIs(self.job.connection, type(self).second.connection)
        self.perform_enqueued_jobs()
        self.note.refresh_from_db()
        self.assertEqual(self.note.text, "x")

    test_each_test_does = test_each_test_starts_without_jobs

    def test_a_job_of_the_test_data_may_be_a_prerequisite(self):
        self.assertEqual(MyCommand.defer("y", prereq_jobs=[self.job]).state, "queued")


def test_the_mixin_stands_first():
    with pytest.raises(TypeError, match="Wrong: JobsTestMixin must stand before TestCase"):

        class Wrong(TestCase, JobsTestMixin):
            pass

    class Right(WhatTransactionsDo, TestCase):
        pass

    class Further(Right):
        pass


def test_methods_of_the_kit_keep_their_documentation():
    assert JobsTestMixin.travel is Kit.travel
    assert "Move the clock" in JobsTestMixin.travel.__doc__


# --- with pytest -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("db", marks=pytest.mark.django_db(databases=["default", "other"])),
        pytest.param("transactional_db", marks=pytest.mark.django_db(transaction=True, databases=["default", "other"])),
    ],
)
def test_the_fixture_counts_captured_callbacks_once(kind, jobs, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        MyCommand.defer("x")
        transaction.on_commit(lambda: MyCommand.defer("y"))
        with transaction.atomic(using="other"):
            MyCommand.defer("z")
    jobs.assert_enqueued_jobs(3)

    with pytest.raises(RollbackError), transaction.atomic():
        MyCommand.defer("x")
        raise RollbackError
    jobs.assert_enqueued_jobs(3)


@pytest.mark.django_db
def test_a_request_in_a_transaction_enqueues_when_it_ends(jobs, rf, settings):
    @transaction.atomic
    def view(request):
        MyCommand.defer("x")
        jobs.assert_no_enqueued_jobs()
        return request

    view(rf.get("/"))
    jobs.assert_enqueued_jobs(1)


def test_async_code_under_pytest(jobs):
    async def code():
        job = await MyCommand.adefer("x")
        jobs.assert_enqueued_with(MyCommand, args=("x",))
        return job

    assert async_to_sync(code)().state == "queued"
    assert asyncio.run(code()).state == "queued"
    jobs.assert_enqueued_jobs(2)


@pytest.mark.django_db
def test_the_kits_patches_are_removed_when_it_closes():
    before = transaction.Atomic.__exit__, runtime.now, runtime.stand_in, runtime.open_transactions
    with pytest.raises(ZeroDivisionError), Kit(), Kit():
        assert transaction.Atomic.__exit__ is not before[0]
        assert runtime.stand_in is not None
        1 / 0  # noqa: B018

    assert (transaction.Atomic.__exit__, runtime.now, runtime.stand_in, runtime.open_transactions) == before
    WriteNote.defer("before")  # to the server, if the test's transaction were committed
    with Kit() as jobs, transaction.atomic():
        WriteNote.defer("x")
    jobs.assert_enqueued_jobs(1)


def test_kits_in_kits_the_innermost_counts():
    with Kit() as outer:
        job = MyCommand.defer("x")
        with Kit() as inner:
            MyCommand.defer("y")
            inner.travel(3_600)
        assert job.state == "queued"
        assert outer.now() < inner.now() - 3_000
        MyCommand.defer("z", wait=60)
        with Kit() as covering:
            # Each its own jobs by its own clock, whichever else is open.
            assert (outer.travel(61), outer.perform_enqueued_jobs()) == (1, 1)
            covering.assert_no_performed_jobs()

    assert [recorded.args for recorded in outer.enqueued_jobs] == [("x",), ("z",)]
    assert [recorded.args for recorded in inner.enqueued_jobs] == [("y",)]
    assert isinstance(job, MandateJob)
