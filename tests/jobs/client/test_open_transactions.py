"""Transactions that Django does not show to `defer`: below an async function, and with autocommit off."""

import asyncio
import threading

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, transaction
from django.db.transaction import TransactionManagementError

from jobs import queues
from jobs.job import JobState
from jobs.testing import Kit
from tests.sample import tasks
from tests.sample.commands.notes import WriteNote
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True)


class RollbackError(Exception):
    pass


def written():
    return sum(queues.lengths().values())


# --- async code ------------------------------------------------------------------------------


async def defer_each():
    """Enqueue in every form, in the coroutine itself and in a task of it."""
    WriteNote.defer("x")
    WriteNote.defer_many([("y",)])
    tasks.add.enqueue(1)
    await asyncio.create_task(WriteNote.adefer("z"))
    await asyncio.create_task(defer_one())


async def defer_one():
    return WriteNote.defer("x")


def test_async_code_below_a_transaction_waits_for_its_commit():
    with transaction.atomic():
        async_to_sync(defer_each)()
        assert written() == 0
    assert written() == 5


def test_its_rollback_and_that_of_a_savepoint_drop_the_jobs():
    with pytest.raises(RollbackError), transaction.atomic():
        async_to_sync(defer_each)()
        raise RollbackError
    with transaction.atomic(), pytest.raises(RollbackError), transaction.atomic():
        async_to_sync(defer_each)()
        raise RollbackError
    assert written() == 0


def test_the_same_in_the_main_event_loop_as_under_asgi():
    def view():
        with pytest.raises(RollbackError), transaction.atomic():
            async_to_sync(defer_each)()
            raise RollbackError
        with transaction.atomic():
            return async_to_sync(defer_one)()

    async def serve():
        await sync_to_async(view)()
        await defer_one()  # below no transaction

    asyncio.run(serve())
    assert written() == 2


def test_a_task_that_outlives_its_transaction_and_other_threads_do_not_wait():
    async def serve():
        left = []
        gate = asyncio.Event()

        async def late():
            await gate.wait()
            return WriteNote.defer("late")

        async def inner():
            left.append(asyncio.create_task(late()))

        def view():
            with transaction.atomic():
                async_to_sync(inner)()

        def next_view():
            with transaction.atomic():  # in the same thread
                loop.call_soon_threadsafe(gate.set)
                asyncio.run_coroutine_threadsafe(asyncio.wait(left), loop).result()
                assert written() == 1

        loop = asyncio.get_running_loop()
        await sync_to_async(view)()
        await sync_to_async(next_view)()

    asyncio.run(serve())
    with transaction.atomic():
        thread = threading.Thread(target=lambda: asyncio.run(defer_one()))
        thread.start()
        thread.join()
        assert written() == 2


def test_the_kit_does_the_same():
    with Kit() as jobs:
        with transaction.atomic():
            async_to_sync(defer_each)()
            jobs.assert_no_enqueued_jobs()
        jobs.assert_enqueued_jobs(5)


# --- autocommit off --------------------------------------------------------------------------

outside_atomic = pytest.mark.skipif(
    connection.vendor == "mysql", reason="MariaDB does not say if a transaction is open"
)


@pytest.fixture
def without_autocommit():
    transaction.set_autocommit(False)
    yield
    transaction.rollback()
    transaction.set_autocommit(True)


@outside_atomic
@pytest.mark.usefixtures("without_autocommit")
def test_without_autocommit_a_job_waits_for_the_commit():
    Note.objects.create(text="x")
    job = WriteNote.defer("x")
    assert job.state is None
    transaction.commit()
    assert job.state is JobState.QUEUED
    transaction.commit()
    assert written() == 1


@outside_atomic
@pytest.mark.usefixtures("without_autocommit")
def test_without_autocommit_a_rollback_drops_the_job_and_nothing_open_is_waited_for():
    Note.objects.create(text="x")
    WriteNote.defer("x")
    transaction.rollback()
    transaction.commit()
    assert written() == 0
    assert WriteNote.defer("y").state is JobState.QUEUED


@pytest.mark.usefixtures("without_autocommit")
def test_atomic_without_autocommit_ends_no_transaction():
    with transaction.atomic():
        kept = WriteNote.defer("x")
        with pytest.raises(RollbackError), transaction.atomic():
            dropped = WriteNote.defer("x")
            raise RollbackError
    assert (kept.state, dropped.state) == (None, None)
    transaction.commit()
    assert (kept.state, dropped.state) == (JobState.QUEUED, None)


@outside_atomic
def test_a_transaction_committed_by_autocommit_again_writes_its_jobs():
    transaction.set_autocommit(False)
    Note.objects.create(text="x")
    job = WriteNote.defer("x")
    transaction.commit()
    transaction.set_autocommit(True)
    assert job.state is JobState.QUEUED
    with transaction.atomic():
        later = WriteNote.defer("y")
        assert later.state is None
    assert later.state is JobState.QUEUED


@pytest.mark.usefixtures("without_autocommit")
def test_a_database_that_does_not_say_whether_a_transaction_is_open_is_refused(monkeypatch):
    Note.objects.create(text="x")
    monkeypatch.setattr(connection, "vendor", "mysql")
    with pytest.raises(TransactionManagementError, match="Autocommit is off on the database 'default'"):
        WriteNote.defer("x")
    assert written() == 0
    with transaction.atomic():
        job = WriteNote.defer("x")
    transaction.commit()
    assert job.state is JobState.QUEUED


@outside_atomic
@pytest.mark.usefixtures("without_autocommit")
def test_without_autocommit_the_kit_does_the_same():
    with Kit() as jobs:
        Note.objects.create(text="x")
        WriteNote.defer("x")
        jobs.assert_no_enqueued_jobs()
        transaction.commit()
        jobs.assert_enqueued_jobs(1)
