"""A wait for a batch returns when its last member has ended; where the end could never come, it is refused."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction

from jobs import Batch, Workflow, control
from jobs.batches import record
from jobs.batches.block import Block
from jobs.broker import keys
from jobs.broker.connections import get_connection
from jobs.errors import BatchNotFoundError, WaitRefusedError, WaitTimeoutError
from tests.jobs.batches.test_batch import run
from tests.jobs.worker import eventually
from tests.sample.commands.batches import Live, Part, SurePart
from tests.sample.commands.flows import Fetch, Tell

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def waiting():
    """`waiting(batch)`: a wait in a thread of its own that has begun; its `result()`."""
    with ThreadPoolExecutor() as threads:

        def start(batch):
            future = threads.submit(batch.wait, 30.0)
            eventually(lambda: noted(batch) or future.done())
            return future

        yield start


def noted(batch):
    return get_connection("default").scard(keys.waiters(record.CHILD + batch.id))


def batch_of(*names):
    with Batch("b") as batch:
        jobs = [Part.defer(name, "refused" if name == "refused" else "") for name in names]
    return batch, jobs


@pytest.mark.parametrize(("names", "succeeded"), [(("one", "two"), True), (("one", "refused"), False)])
def test_a_wait_is_woken_by_the_end_of_the_last_member(names, succeeded, worker, waiting):
    batch, _ = batch_of(*names)
    wait = waiting(batch)
    worker.step()
    assert not wait.done()
    worker.step()

    assert wait.result(5) is succeeded
    assert batch.wait(0) is Batch.get(batch.id).wait() is succeeded
    assert not noted(batch)


@pytest.mark.parametrize("end", ["cancel", "delete", "sweep", "seal"])
def test_other_ends_wake_it_too(end, worker, waiting):
    batch, (job,) = batch_of("one")
    if end == "seal":
        worker.client.sadd(keys.batch_holds(batch.id), "somebody")
        run(worker)
    wait = waiting(batch)
    if end == "cancel":
        batch.cancel()
    elif end == "delete":
        control.delete(job)
    elif end == "sweep":
        worker.client.delete(keys.job(job.id))
        record.sweep(worker.client, batch.id, 10)
    else:
        batch.seal()

    assert wait.result(5) is (end == "seal")


def test_a_batch_that_is_open_again_is_waited_for_again(worker, waiting):
    with Workflow("f") as flow:
        fetched = flow.add(Fetch, 2)
        flow.add(Tell, fetched.result)
    run(worker)
    assert flow.wait() is True
    flow.retry_from(fetched)
    wait = waiting(flow)
    run(worker)
    assert wait.result(5) is True


def test_a_wait_ends_at_its_time_and_an_unknown_batch_is_an_error(worker):
    batch, _ = batch_of("one")
    with pytest.raises(WaitTimeoutError, match=rf"Batch {batch.id} has not ended within 0 s. It goes on"):
        batch.wait(0)
    with pytest.raises(ValueError, match="timeout=-1 is impossible"):
        batch.wait(-1)
    worker.client.delete(*record.keys_of(batch.id))
    with pytest.raises(BatchNotFoundError, match="No batch"):
        batch.wait()


def test_it_is_refused_before_the_batch_can_be_written(worker):
    with Batch("outer") as outer:
        with pytest.raises(
            WaitRefusedError, match=rf"Batch {outer.id} cannot .* the end of the block that is still open"
        ):
            outer.wait()
        with Batch("inner") as inner:
            Part.defer("one")
        with pytest.raises(WaitRefusedError, match="the end of the block that is still open"):
            inner.wait()
    with transaction.atomic():
        batch, _ = batch_of("one")
        with pytest.raises(WaitRefusedError, match="it is written when the open transaction of the database 'default'"):
            batch.wait()
    run(worker)
    assert batch.wait() and inner.wait() and outer.wait()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        batch, _ = batch_of("one")
        1 / 0  # noqa: B018
    with pytest.raises(WaitRefusedError, match="its transaction was rolled back"):
        batch.wait()
    with pytest.raises(ZeroDivisionError), Batch("b") as failed:
        1 / 0  # noqa: B018
    with pytest.raises(WaitRefusedError, match="its block, or one around it, has raised"):
        failed.wait()
    assert not worker.client.keys("jobs:waiters:*")


def test_a_member_cannot_wait_for_its_batch(worker, monkeypatch):
    errors = []

    def wait(member):
        with pytest.raises(WaitRefusedError) as caught:
            member.batch.wait()
        errors.append(str(caught.value))

    with Batch("b") as batch:
        job = Live.defer(1)
    monkeypatch.setitem(Live.acts, 1, wait)
    run(worker)

    assert errors == [
        f"Batch {batch.id} cannot be waited for by job {job.id}, which is a member: the batch ends after the job. "
        "Let a callback of the batch do the rest."
    ]


def test_it_is_awaited_in_async_code(worker):
    batch, _ = batch_of("one")

    async def view():
        with pytest.raises(WaitRefusedError, match=r"batch.wait\(\) would block .* `await batch.await_end\(\)`"):
            batch.wait()
        with pytest.raises(WaitTimeoutError):
            await batch.await_end(0)
        wait = asyncio.create_task(batch.await_end(30))
        while not noted(batch):
            await asyncio.sleep(0)
        await sync_to_async(worker.step)()
        return await wait

    assert async_to_sync(view)() is True


def test_a_durable_batch_is_waited_for_before_it_is_written(worker, waiting, settings):
    settings.JOBS = {**settings.JOBS, "OUTBOX": "default"}
    with Batch("b") as batch:
        SurePart.defer("one")
    assert record.read(worker.client, batch.id) is None
    wait = waiting(batch)
    run(worker)
    assert wait.result(5) is True


def test_the_kit_performs_what_is_due(jobs):
    batch, _ = batch_of("one", "two")
    with Batch("later") as later:
        Part.using(queue="low").defer("three", wait=60)
    assert batch.wait() is True
    with pytest.raises(WaitTimeoutError, match=rf"Batch {later.id} is open, and nothing that is due is left"):
        later.wait(5)
    jobs.travel(60)
    assert later.wait() is True


def test_its_jobs_are_refused_as_it_is(worker):
    with Workflow("flow") as flow:
        step = flow.add(Fetch, 1)
        with pytest.raises(WaitRefusedError, match="Job .* the end of the block that is still open"):
            step.job.wait()
    with pytest.raises(RuntimeError), Batch("outer"):
        with Batch("inner"):
            job = Part.defer("one")
        raise RuntimeError
    with pytest.raises(WaitRefusedError, match="its block, or one around it, has raised"):
        job.wait()
    with Workflow("unique", unique="it") as first:
        first.add(Fetch, 1)
    with Workflow("unique", unique="it") as second:
        never = second.add(Fetch, 1).job
    with pytest.raises(WaitRefusedError, match=f"flow {first.id} stands for"):
        never.wait()


def test_after_a_rollback_a_durable_one_is_refused_too(settings, worker, waiting):
    settings.JOBS = {**settings.JOBS, "OUTBOX": "default"}
    with transaction.atomic():
        with Batch("lost") as lost:
            job = SurePart.defer("one")
        transaction.set_rollback(True)
    for each in (lost, job):
        with pytest.raises(WaitRefusedError, match="was rolled back"):
            each.wait()

    with transaction.atomic(), Batch("b") as batch:
        SurePart.defer("one")
    wait = waiting(batch)
    run(worker)
    assert wait.result(5) is True


def test_a_wait_while_another_thread_writes_it_goes_on(worker, monkeypatch):
    begin, found = Block._begin, []

    def wait_first(block):
        with ThreadPoolExecutor() as threads:  # between the end of the block and its first word to the server
            found.append(threads.submit(batch.wait, 0).exception())
        begin(block)

    monkeypatch.setattr(Block, "_begin", wait_first)
    with Batch("b") as batch:
        Part.defer("one")
    assert [type(each) for each in found] == [WaitTimeoutError]


def test_a_flow_for_which_another_stands_waits_for_that(worker, waiting):
    for number in range(2):
        with Workflow("unique", unique="it") as flow:
            flow.add(Fetch, number)
    assert flow.duplicate
    wait = waiting(flow)
    run(worker)
    assert wait.result(5) is True


def test_one_that_was_rolled_back_alone_in_another_is_refused(worker):
    with transaction.atomic(), Batch("outer") as outer:
        Part.defer("one")
        with pytest.raises(RuntimeError), transaction.atomic():
            with Batch("inner") as inner:
                Part.defer("two")
            raise RuntimeError
    with pytest.raises(WaitRefusedError, match="does not exist"):
        inner.wait(0)
    run(worker)
    assert outer.wait() is True
