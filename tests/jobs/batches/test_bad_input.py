"""What goes wrong around batches: dead callbacks, two servers, creators that die, commands and members that go."""

import contextvars
from contextlib import suppress
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from config.queues import rq_queues
from jobs import Batch, Workflow, control
from jobs import queues as pushing
from jobs.attempts import failures
from jobs.batches import block as writing
from jobs.batches import record, rows
from jobs.broker import keys
from jobs.broker.times import DAY
from jobs.errors import BatchError, BatchNotFoundError, ChangeRefusedError
from jobs.job import JobState, MandateJob
from jobs.worker.release import release
from tests.jobs.batches.test_batch import notes, run
from tests.sample.commands.batches import Live, Part, Say
from tests.sample.commands.flows import Add, Fetch, Tell
from tests.sample.models import Note

pytestmark = pytest.mark.django_db(transaction=True)


def callback_of(batch, event):
    return MandateJob.fetch(record.callback_id(batch.id, event), connection=batch._server())


# --- callbacks -------------------------------------------------------------------------------


def test_a_dead_callback_is_shown_and_retried_and_the_batch_stays_whole(worker):
    Note.objects.create(text="bad")
    outer, batch = (
        Batch("outer", on_success=Say.prepare("success")),
        Batch("b", on_success=Part.prepare("called", "bad")),
    )
    with outer, batch:
        Part.defer("one")
    run(worker)

    assert batch.has_succeeded and batch.counts["finished"] == batch.total == 1
    callback = callback_of(batch, "success")
    assert callback.state == JobState.DEAD
    assert rows.callbacks(rows.find(batch.id)) == [("success", callback.id, "failed")]
    assert outer.has_ended and not outer.has_succeeded and outer.counts["dead"] == 1

    Note.objects.all().delete()
    control.retry(callback)
    assert not outer.has_ended and batch.has_succeeded
    run(worker)
    assert notes() == ["called", "success outer"] and outer.has_succeeded
    run(worker)
    assert notes() == ["called", "success outer"]


# --- servers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("far", ["member", "callback", "child"])
def test_a_batch_on_two_servers_is_refused(far, valkey, settings, worker):
    settings.RQ_QUEUES = rq_queues(valkey.url, {"critical": "redis://redis.invalid:6379/0"})
    there = Part.using(queue="critical")
    said = r"Batch .* is on the Redis .*, and this job's queue on redis.invalid:6379.*: make a batch for each"
    with pytest.raises(BatchError, match=said), Batch("b", on_success=Say.prepare("success")):
        Part.defer("here")
        if far == "member":
            there.defer("there")
        elif far == "child":
            with Batch("child"):
                there.defer("there")
        else:
            with Batch("child", on_success=Say.prepare("x", queue="critical")):
                Part.defer("here")
    assert not worker.client.keys("jobs:batch*") and not worker.client.llen(keys.queue("low"))


def test_a_member_is_not_moved_to_another_server(valkey, settings, worker):
    with Batch("b") as batch:
        job = Part.defer("one")
    settings.RQ_QUEUES = rq_queues(valkey.url, {"critical": "redis://redis.invalid:6379/0"})
    with pytest.raises(ChangeRefusedError, match="is on another Redis"):
        control.move(job, "critical")

    run(worker)
    assert batch.has_succeeded and notes() == ["one"]


# --- creators --------------------------------------------------------------------------------


@pytest.mark.parametrize("last", ["first", "second"])
def test_two_creators_fill_one_batch(last, worker):
    first = Batch("b", flush=5, on_complete=Say.prepare("complete"), on_success=Say.prepare("success"))
    with first as batch:
        for number in range(7):
            Part.defer(f"first {number}")
        elsewhere, second = contextvars.Context(), Batch.get(batch.id).add()
        elsewhere.run(second.__enter__)
        for number in range(7):
            elsewhere.run(Part.defer, f"second {number}")
        if last == "first":
            elsewhere.run(second.__exit__, None, None, None)
            run(worker)
            assert len(notes()) == 12 and not batch.has_ended
    if last == "second":
        assert batch.total == 7
        elsewhere.run(second.__exit__, None, None, None)
    run(worker)

    assert batch.has_succeeded and batch.counts["finished"] == batch.total == 14
    assert len(set(notes())) == len(notes()) == 16 and {"complete b", "success b"} < set(notes())


class Killed(BaseException):
    pass


@pytest.mark.parametrize("flush", [0, 10])
def test_a_creator_that_is_killed_between_slices_leaves_the_batch_open(flush, worker, monkeypatch):
    monkeypatch.setattr(pushing, "SLICE_FEW", 10)
    monkeypatch.setattr(pushing, "_write_ahead", lambda client, slices: [push(client, each) for each in slices])
    real, slices = pushing._write_slice, []

    def push(client, pairs):
        slices.append(pairs)
        if len(slices) == 3:
            raise Killed
        real(client, pairs)

    monkeypatch.setattr(pushing, "_write_slice", push)
    with pytest.raises(Killed), Batch("b", flush=flush, on_complete=Say.prepare("complete")) as batch:
        for number in range(40):
            Part.defer(str(number))
    run(worker)
    written = len(notes())
    assert written in (10, 20) and batch.counts["finished"] == written and "complete b" not in notes()

    assert record.sweep(worker.client, batch.id, 100) == 0
    assert not batch.has_ended and rows.find(batch.id).state == "open"
    worker.client.hset(keys.batch(batch.id), "created", 1)
    said = StringIO()
    with suppress(CommandError):
        call_command("jobs_doctor", stdout=said)
    assert "1 batch has been open for an hour or more: b." in " ".join(said.getvalue().split())
    call_command("jobs", "batches", "seal", batch.id, stdout=StringIO())
    run(worker)
    assert batch.has_succeeded and "complete b" in notes()


# --- commands that are gone ------------------------------------------------------------------


@pytest.mark.parametrize("on_failure", ["block", "run"])
def test_a_step_whose_command_is_gone_is_dead_with_that_reason(on_failure, worker, monkeypatch):
    with Workflow("f", on_complete=Say.prepare("complete")) as flow:
        fetched = flow.add(Fetch, 2)
        added = flow.add(Add, fetched.result)
        told = flow.add(Tell, added.result, on_failure=on_failure)
    data = worker.client.hget(keys.job(added.id), "data")
    worker.client.hset(keys.job(added.id), "data", data.replace(b"sample.Add", b"sample.Gone"))
    run(worker)
    assert (added.job.state, added.job.reason) == (JobState.RETRYING, "unknown command")  # for a day
    monkeypatch.setattr(failures, "UNKNOWN_FOR", 0.0)
    run(worker.hurry())

    assert added.job.state == JobState.DEAD and "sample.Gone" in added.job.reason
    assert flow.counts["dead"] == 1 and "sample.Gone" in flow.errors()[0].reason
    assert told.job.state == (JobState.BLOCKED if on_failure == "block" else JobState.FINISHED)
    assert flow.has_ended == (on_failure == "run")
    worker.client.hset(keys.job(added.id), "data", data)  # it is back in the release after
    flow.retry_from(added)
    run(worker)
    assert flow.has_succeeded and "1" in notes()


# --- depth -----------------------------------------------------------------------------------


def test_members_cannot_open_an_11th_batch_in_one_another(worker, monkeypatch):
    def deeper(member):
        with Batch(f"b{member.number}"):
            Live.defer(member.number + 1)

    for number in range(1, 12):
        monkeypatch.setitem(Live.acts, number, deeper)
    with Batch("b0") as outermost:
        Live.defer(1)
    run(worker)

    (error,) = [each for row in rows.listed(0, 50) for each in rows.errors(row)]
    assert "the 11th in one another, and 10 are the most. Open it with parent=None." in error.reason
    assert outermost.has_ended and outermost.counts["dead"] == 1  # its child, in which a member died


# --- members that go while a callback is on its way ------------------------------------------


def go(how, client, job):
    """Let a job go in a way that no code of a batch sees, or by a person."""
    if how == "cancelled":
        control.cancel(job)
    elif how == "deleted":
        control.delete(job)
    elif how == "trimmed":
        client.delete(keys.job(job.id))
        client.set(keys.gone(job.id), "trimmed", ex=DAY)
    else:
        client.delete(keys.job(job.id), keys.results(job.id))
    client.lrem(keys.queue(job.origin), 0, job.id)


def step_without_release(worker, monkeypatch):
    """Run a job, and stop before anything that waits for it is released."""
    with monkeypatch.context() as patch:
        patch.setattr("tests.jobs.conftest.release", lambda *_: None)
        worker.step()


WAYS = ["cancelled", "deleted", "trimmed", "expired"]


@pytest.mark.parametrize("how", WAYS)
def test_a_member_goes_before_its_callback_is_pushed(how, worker, monkeypatch):
    real = writing.queues.write

    def write(jobs, handles):
        """Members first; the callbacks come when the member is gone."""
        pairs = list(zip(jobs, handles, strict=True))
        members = [pair for pair in pairs if pair[0].batch]
        real(*zip(*members, strict=True))
        go(how, worker.client, members[0][1])
        record.sweep(worker.client, batch.id, 10)
        real(*zip(*[pair for pair in pairs if not pair[0].batch], strict=True))

    monkeypatch.setattr(writing.queues, "write", write)
    callbacks = {f"on_{event}": Say.prepare(event) for event in record.EVENTS}
    with Batch("b", **callbacks) as batch:
        Part.defer("one")
    record.sweep(worker.client, batch.id, 10)
    run(worker)

    assert notes() == ["complete b"] and batch.has_ended
    assert batch.counts["cancelled" if how == "cancelled" else "deleted"] == 1


@pytest.mark.parametrize("how", WAYS[1:])
def test_a_member_goes_while_its_callback_is_released(how, worker, monkeypatch):
    with Batch("b", on_success=Say.prepare("success"), on_complete=Say.prepare("complete")) as batch:
        job = Part.defer("one")
    step_without_release(worker, monkeypatch)
    waiting = worker.client.smembers(keys.RELEASING)
    assert waiting and callback_of(batch, "success").state == JobState.WAITING
    go(how, worker.client, job)
    record.sweep(worker.client, batch.id, 10)
    for member in waiting:
        release(worker.client, member)
    run(worker)

    assert notes() == ["complete b", "one", "success b"] and batch.has_succeeded


def test_a_callback_that_is_cancelled_while_it_is_released_is_enqueued_no_more(worker, monkeypatch):
    with Batch("outer") as outer, Batch("b", on_success=Say.prepare("success")) as batch:
        Part.defer("one")
    step_without_release(worker, monkeypatch)
    control.cancel(callback_of(batch, "success"))
    run(worker)

    assert notes() == ["one"] and batch.has_succeeded
    assert outer.has_ended and outer.counts["cancelled"] == 1  # the callback was a member of the parent by then


def test_success_comes_although_the_dead_member_was_retried_by_rqs_tools(worker):
    Note.objects.create(text="bad")
    with Batch("b", on_success=Say.prepare("success")) as batch:
        job = Part.defer("one", "bad")
    run(worker)
    Note.objects.all().delete()
    pushing.get_queue("low").failed_job_registry.requeue(job.id)
    assert batch.counts["dead"] == 1  # they tell no batch
    run(worker)

    assert batch.has_succeeded and notes() == ["one", "success b"]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Batch(tags="abc"), "tags='abc' is impossible"),
        (lambda: Batch(tags=[1]), r"tags=\[1\] is impossible"),
        (lambda: Batch(tags=7), "tags=7 is impossible"),
        (lambda: Workflow(unique=7), "unique=7 is impossible"),
        (lambda: Workflow(unique=""), "unique='' is impossible"),
        (lambda: add("sample.Fetch", 1), "'sample.Fetch' is no command"),
        (lambda: add(Fetch(1)), "is no command. Give its class"),
        (lambda: add(Fetch, 1, after=None), "after=None is impossible"),
        (lambda: Workflow.get(batch_id()).retry_from(None), "'None' is no step"),
    ],
)
def test_what_is_none_is_refused_with_its_value(make, text, worker):
    with pytest.raises(BatchError, match=text):
        make()


def add(*args, **options):
    with Workflow("flow") as flow:
        flow.add(*args, **options)


def batch_id():
    with Workflow("flow") as flow:
        flow.add(Fetch, 1)
    return flow.id


def test_before_it_is_written_it_says_so(worker):
    with transaction.atomic():
        with Batch("b") as batch:
            Part.defer("one")
            with pytest.raises(BatchNotFoundError, match="is not written"):
                batch.total  # noqa: B018
        with pytest.raises(BatchNotFoundError, match="at the commit of the transaction around it"):
            batch.counts  # noqa: B018
    assert batch.total == 1
