"""Batches on a server: a batch ends when its last member has ended, in whatever way, and each callback runs once."""

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction

from jobs import Batch, control, queues
from jobs.attempts.outcomes import Finished
from jobs.batches import members, record
from jobs.broker import keys
from jobs.errors import BatchEndedError, BatchError, BatchNotFoundError, JobFailedError
from jobs.job import JobState, MandateJob
from jobs.worker.batches import BatchSweep
from jobs.worker.connection import Wire
from jobs.worker.release import release
from tests.jobs.conftest import InlineWorker
from tests.sample.commands.batches import (
    AddParts,
    AddToParent,
    CollapsingPart,
    LimitedPart,
    OnePart,
    OpenChild,
    Part,
    Say,
)
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True)


def notes():
    return sorted(Note.objects.values_list("text", flat=True))


def run(worker):
    """Run all that is due, and release what a parent releases."""
    left = True
    while worker.run() or left:
        left = worker.client.smembers(keys.RELEASING)
        for member in left:
            release(worker.client, member)


def callbacks(**which):
    return {f"on_{event}": Say.prepare(event) for event in which or ("success", "complete", "dead")}


def batch_of(*names, name="b", **options):
    with Batch(name, **(options or callbacks())) as batch:
        for each in names:
            Part.defer(each)
    return batch


def test_the_callbacks_run_once_when_the_last_member_has_finished(worker):
    batch = batch_of("one", "two")
    assert batch.counts["pending"] == batch.total == 2 and not batch.has_ended

    run(worker)

    assert notes() == ["complete b", "one", "success b", "two"]
    assert batch.has_ended and batch.has_succeeded and batch.progress == 1.0
    assert batch.counts == {"pending": 0, "finished": 2, "dead": 0, "discarded": 0, "cancelled": 0, "deleted": 0}


def test_a_death_calls_back_once_and_a_retry_may_still_succeed(worker):
    Note.objects.create(text="bad")
    with Batch("b", **callbacks()) as batch:
        jobs = [Part.defer("one", "bad"), Part.defer("two", "bad"), Part.defer("three")]
    run(worker)
    assert notes() == ["bad", "complete b", "dead b", "three"]
    assert batch.counts["dead"] == 2 and batch.has_ended and not batch.has_succeeded
    assert [(error.reason, error.number) for error in batch.errors()] == [("ValueError: bad is there", 2)]

    control.retry(jobs[0])
    assert not batch.has_ended and batch.counts["pending"] == 1
    assert {worker.client.ttl(key) for key in record.keys_of(batch.id)} <= {-1, -2}  # they expire no more
    run(worker)  # dies again
    Note.objects.filter(text="bad").delete()
    assert batch.retry_dead() == 2
    run(worker)

    assert notes() == ["complete b", "dead b", "one", "success b", "three", "two"]
    assert batch.has_succeeded


@pytest.mark.parametrize("end", ["refused", "cancel", "delete"])
def test_other_ends_complete_it_without_success(worker, end):
    with Batch("b", **callbacks()) as batch:
        job = Part.defer("one", "refused" if end == "refused" else "")
    if end != "refused":
        getattr(control, end)(job)
    run(worker)

    assert notes() == ["complete b"]
    assert batch.counts[{"refused": "discarded", "cancel": "cancelled", "delete": "deleted"}[end]] == 1
    assert batch.has_ended and not batch.has_succeeded


def test_a_finished_member_that_is_deleted_stays_finished(worker):
    with Batch("b", **callbacks()) as batch:
        job, _ = Part.defer("one"), Part.defer("two")
    worker.step()
    control.delete(job)
    run(worker)

    assert batch.has_succeeded and batch.counts["finished"] == 2


def test_an_empty_batch_calls_back_at_once(worker):
    batch = batch_of()
    run(worker)

    assert notes() == ["complete b", "success b"] and batch.total == 0 and batch.progress == 1.0


def test_a_block_that_raises_writes_nothing(worker):
    with pytest.raises(ZeroDivisionError), Batch("b", **callbacks()) as batch:
        Part.defer("one")
        1 / 0  # noqa: B018

    run(worker)
    assert notes() == [] and not worker.client.keys("jobs:batch*")
    with pytest.raises(BatchNotFoundError, match="No batch"):
        Batch.get(batch.id)


def test_it_is_written_with_the_transaction_around_it(worker):
    with transaction.atomic():
        batch_of("one")
        run(worker)
        assert not worker.client.keys("jobs:batch*") and notes() == []
    run(worker)
    assert "success b" in notes()

    with pytest.raises(ZeroDivisionError), transaction.atomic():
        batch_of("two", name="rolled back")
        1 / 0  # noqa: B018
    run(worker)
    assert "two" not in notes() and "complete rolled back" not in notes()


def test_a_member_follows_the_transaction_in_the_block(worker):
    with Batch("b") as batch:
        with transaction.atomic():
            Part.defer("kept")
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Part.defer("dropped")
            1 / 0  # noqa: B018
    with transaction.atomic(), Batch("c") as other:
        Part.defer("outer")
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Part.defer("dropped, too")
            1 / 0  # noqa: B018
    run(worker)

    assert notes() == ["kept", "outer"] and batch.total == other.total == 1


def test_a_member_adds_others(worker):
    with Batch("b", **callbacks()) as batch:
        AddParts.defer(["one", "two"])
    run(worker)

    assert notes() == ["complete b", "one", "success b", "two"] and batch.total == 3
    with pytest.raises(BatchEndedError, match="has ended"), batch.add():
        pass


def test_jobs_are_added_from_outside_while_it_is_open(worker):
    batch = batch_of("one")
    with batch.add():
        Part.defer("two")
    run(worker)

    assert "success b" in notes() and batch.total == 2


def test_a_job_whose_command_has_no_batch_reads_none(worker):
    Say.defer("alone")
    run(worker)

    assert notes() == ["alone"] and Say("x").batch is None


def test_a_child_is_a_member_and_holds_its_parent_until_its_callbacks_have_ended(worker):
    with Batch("outer", on_success=Say.prepare("success")) as outer:
        Part.defer("one")
        with Batch("inner", on_success=AddToParent.prepare(["late"])) as inner:
            Part.defer("two")
    assert [child.id for child in outer.children()] == [inner.id]
    while worker.step():
        if "late" not in notes():
            assert "success outer" not in notes()

    assert notes() == ["late", "one", "success outer", "two"]
    assert outer.has_succeeded and inner.has_succeeded and inner.parent.id == outer.id
    assert outer.total == 4  # a job, the child, the child's callback, and what that has added


def test_a_batch_in_the_call_of_a_member_is_a_child(worker):
    with Batch("outer", on_complete=Say.prepare("complete")) as outer:
        OpenChild.defer("inner", ["one", "two"])
    run(worker)

    assert notes() == ["complete outer", "done inner", "one", "two"]
    assert len(outer.children()) == 1


def test_a_death_in_a_child_calls_back_in_every_batch_around_it(worker):
    Note.objects.create(text="bad")
    with Batch("outer", **callbacks(dead=1)) as outer, Batch("middle", **callbacks(dead=1)), Batch("inner"):
        job = Part.defer("one", "bad")
    run(worker)
    assert notes() == ["bad", "dead middle", "dead outer"]
    assert outer.counts["dead"] == 1 and outer.has_ended

    Note.objects.all().delete()
    control.retry(job)
    assert not outer.has_ended
    run(worker)
    assert outer.has_succeeded and notes() == ["one"]


def test_ten_batches_in_one_another_are_the_most(worker):
    def nest(depth):
        with Batch(f"b{depth}", on_success=Say.prepare("success")):
            return nest(depth - 1) if depth > 1 else Part.defer("one")

    nest(10)
    run(worker)
    assert len(notes()) == 11
    with pytest.raises(BatchError, match="the 11th in one another, and 10 are the most"):
        nest(11)


def test_the_job_for_which_a_duplicate_stands_is_a_member(worker):
    queued, running = OnePart.defer("queued"), OnePart.defer("running")
    worker.client.lrem(keys.queue("low"), 0, queued.id)
    worker.client.rpush(keys.queue("low"), queued.id)
    claim = worker.claim()
    assert claim.job_id == running.id
    with Batch("b", **callbacks()) as batch, Batch("other"):
        duplicates = [OnePart.defer(name) for name in ("queued", "running")]
    assert [job.id for job in duplicates] == [queued.id, running.id]
    (child,) = batch.children()
    assert child.total == 2 and child.counts["pending"] == 2

    worker.fetch.commits.add(claim, Finished(None, 0), "sample.OnePart", 0.1)
    run(worker)

    assert batch.has_succeeded and child.counts["finished"] == 2
    assert notes() == ["complete b", "queued", "success b"]


def test_it_is_cancelled_with_what_runs_and_what_is_in_it(worker):
    with Batch("b", **callbacks()) as batch:
        Part.defer_many([(str(number),) for number in range(500)])
        with Batch("child"):
            Part.defer("one")
    claim = worker.claim()
    assert batch.cancel() == 501
    assert batch.has_ended and batch.counts["cancelled"] == 501  # with the child
    worker.fetch._steps.held.clear()  # a worker is told to interrupt it
    run(worker)

    assert notes() == ["complete b"] and claim.job_id
    with pytest.raises(BatchEndedError):
        batch.add()


@pytest.mark.parametrize("flush", [0, 2])
def test_jobs_that_are_on_their_way_when_it_is_cancelled_never_run(worker, monkeypatch, flush):
    """It is listed, so that it can be cancelled, from its first slice on; its callback is no part of the cancel."""
    write, cancelled = queues.write, []

    def cancel_first(jobs, handles):
        if not cancelled:
            cancelled.append(Batch.get(batch.id).cancel())
        write(jobs, handles)

    monkeypatch.setattr(queues, "write", cancel_first)
    with Batch("b", on_complete=Say.prepare("complete"), flush=flush) as batch:
        lost = [Part.defer(str(number)) for number in range(5)]
    run(worker)
    run(worker)

    assert cancelled == [0]
    assert notes() == ["complete b"]
    assert batch.counts | {"cancelled": 5} == batch.counts and batch.has_ended
    with pytest.raises(JobFailedError, match="is cancelled"):
        lost[-1].wait(5)


def test_a_change_of_many_takes_them_as_they_stand(worker):
    with Batch("b") as batch:
        jobs = Part.defer_many([(str(number),) for number in range(300)])
        later = Part.defer_many([(str(number),) for number in range(5)], wait=60)
    ids = [job.id for job in jobs]

    found = members.as_they_stand(worker.client, [*(job.id for job in later), *sorted(ids)])

    assert found == ids + [job.id for job in later]
    few = sorted(ids)[:10]
    assert members.as_they_stand(worker.client, few) == few
    assert batch.cancel() == 305


def test_members_of_which_nothing_is_left_are_ended_by_the_sweep(worker):
    with Batch("b", **callbacks()) as batch:
        jobs = [Part.defer(name) for name in ("emptied", "failed", "there")]
    worker.client.delete(keys.job(jobs[0].id))
    worker.client.hset(keys.job(jobs[1].id), "status", "failed")
    assert record.sweep(worker.client, batch.id, 100) == 1
    assert batch.counts["deleted"] == batch.counts["dead"] == 1
    worker.client.delete(keys.job(jobs[2].id))
    assert record.sweep(worker.client, batch.id, 100) == 0
    worker.client.delete(keys.job(jobs[1].id))  # expired
    record.sweep(worker.client, batch.id, 100)
    assert batch.counts["deleted"] == 3
    assert 0 < worker.client.ttl(keys.batch(batch.id)) <= 86_400


def test_what_is_left_expires(worker):
    batch_of("one", "two")
    with Batch("empty", on_dead=Say.prepare("dead")):
        pass
    run(worker)

    left = [key for key in worker.client.keys("jobs:batch:*") if worker.client.ttl(key) < 0]
    assert left == []
    assert not worker.client.zcard(keys.registry("deferred", "default"))


def test_a_script_sent_twice_changes_nothing(worker):
    batch = batch_of("one")
    record.seal(worker.client, batch.id)
    record.create(worker.client, batch.id, record.NewHeader("again", (), 1, ""))
    assert batch.name == "b"
    run(worker)
    record.seal(worker.client, batch.id)
    run(worker)

    assert notes() == ["complete b", "one", "success b"]


def test_callbacks_are_refused_that_are_not_prepared():
    with pytest.raises(BatchError, match=r"on_success=.* is impossible. Give a job that is not deferred yet"):
        Batch("b", on_success=Say)
    with pytest.raises(TypeError, match="cannot be deferred"):
        Say.prepare()


def test_jobs_are_written_as_the_block_goes_on_with_flush(worker):
    with Batch("b", flush=10, **callbacks()) as batch:
        for number in range(25):
            Part.defer(str(number))
        assert worker.client.llen(keys.queue("low")) == 20
        run(worker)
        assert batch.counts["finished"] == 20 and not batch.has_ended
    run(worker)
    assert batch.has_succeeded and batch.total == 25
    with pytest.raises(BatchError, match="a transaction of 'default' is open"), Batch(flush=5), transaction.atomic():
        Part.defer("x")


def test_members_carry_their_state(worker):
    batch = batch_of("one", "two")
    assert {job.state for job in batch.jobs()} == {JobState.QUEUED}
    worker.step()
    assert [job.command_args for job in batch.jobs("finished")] == [["one"]]


def test_the_parent_cancels_callbacks_of_batches_that_are_forgotten(worker):
    Note.objects.create(text="bad")
    with Batch("b", on_success=Say.prepare("success")) as batch:
        Part.defer("one", "refused")
    with Batch("c") as other:
        Part.defer("two")
    sweep = BatchSweep(Wire("default"), worker.client)
    sweep.run()
    run(worker)
    worker.client.delete(*record.keys_of(batch.id))
    worker.client.zadd(keys.BATCHES, {batch.id: 1})
    sweep.turn()

    job = next(iter(jobs_of(batch)))
    assert (job.state, job.reason) == (JobState.CANCELLED, "its batch is forgotten, and the event did not come")
    assert worker.client.zrange(keys.BATCHES, 0, -1) == [other.id.encode()]
    sweep._wire.close()


def jobs_of(batch):
    return [MandateJob.fetch(record.callback_id(batch.id, "success"), connection=batch._server())]


def test_a_job_that_takes_the_arguments_of_others_is_a_member_in_their_place(worker):
    before = CollapsingPart.defer("key", "before")
    with Batch("b", on_success=Say.prepare("success")) as batch:
        later = [CollapsingPart.defer("key", name) for name in ("one", "two")]
    assert {job.id for job in later} == {before.id} and batch.total == 1
    worker.hurry()
    run(worker)

    assert notes() == ["success b", "two"] and batch.has_succeeded


def test_a_member_that_waits_for_a_limit_is_pending(worker):
    with Batch("b", on_success=Say.prepare("success")) as batch:
        first, second = LimitedPart.defer("one"), LimitedPart.defer("two")
    claim = worker.claim()
    other = InlineWorker("other")
    assert other.claim() is None and second.state == JobState.LIMITED and batch.counts["pending"] == 2
    other.close()
    worker.fetch.commits.add(claim, Finished(None, 0), "sample.LimitedPart", 0.1)
    run(worker)

    assert batch.has_succeeded and notes() == ["success b", "two"] and first.id == claim.job_id


def test_it_is_opened_in_async_code(worker):
    async def view():
        async with Batch("b", on_success=Say.prepare("success")) as batch:
            await Part.adefer("one")
            async with Batch("child"):
                await Part.adefer("two")
        async with batch.add():
            await Part.adefer("three")
        with pytest.raises(ZeroDivisionError):
            async with Batch("c"):
                await Part.adefer("four")
                1 / 0  # noqa: B018
        return batch

    batch = async_to_sync(view)()
    run(worker)

    assert notes() == ["one", "success b", "three", "two"] and batch.total == 3
