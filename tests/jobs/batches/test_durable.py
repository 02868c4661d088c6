"""Batches of durable jobs: through the outbox."""

import pytest
from django.db import transaction

from jobs import Batch, control
from jobs.batches import record
from jobs.broker import keys
from jobs.commands.seal_batch import SealBatch
from jobs.errors import JobFailedError
from jobs.models import Unsent
from jobs.outbox import hooks
from jobs.outbox.relay import send_all
from tests.jobs.batches.test_batch import notes, run
from tests.sample.commands.batches import Part, Say, SurePart

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def outbox(settings):
    settings.JOBS = {**settings.JOBS, "OUTBOX": "default"}


def test_a_durable_batch_goes_through_the_outbox(worker):
    with transaction.atomic(), Batch("b", on_success=Say.prepare("success")) as batch:
        SurePart.defer("one")
        Part.defer("two")
        with Batch("child", on_success=Say.prepare("success")):
            SurePart.defer("three")
    run(worker)

    assert notes() == ["one", "success b", "success child", "three", "two"]
    assert batch.has_succeeded and batch.total == 4


def test_its_jobs_may_be_sent_by_the_relay_in_any_order(jobs):
    with jobs.redis_away(), transaction.atomic(), Batch("b", on_success=Say.prepare("success")) as batch:
        SurePart.defer("one")
        SurePart.defer("two")
    assert jobs.relay() == 4
    jobs.perform_enqueued_jobs()
    jobs.travel(2)
    jobs.travel(2)

    assert notes() == ["one", "success b", "two"] and batch.has_succeeded


def test_it_is_sealed_when_the_last_of_its_jobs_has_arrived(worker):
    batch = Batch("b", on_success=Say.prepare("success", durable=True))
    with batch:
        SurePart.defer("one")
    assert record.withdrawn(worker.client, batch.id, ["another"]) is None
    members = [job.id for job in batch.jobs()] if record.read(worker.client, batch.id) else []
    assert members == []
    run(worker)

    assert batch.has_succeeded


def test_a_member_that_is_withdrawn_from_the_outbox_counts_as_deleted(jobs):
    with jobs.redis_away(), transaction.atomic(), Batch("b", on_complete=Say.prepare("complete")) as batch:
        SurePart.defer("one")
        lost = SurePart.defer("two")
    control.cancel(lost)
    assert jobs.relay() == 3
    for _ in range(3):
        jobs.perform_enqueued_jobs()

    assert notes() == ["complete b", "one"] and batch.counts["deleted"] == 1 and not batch.has_succeeded


def test_it_is_looked_at_less_often_the_longer_it_waits_and_no_more_once_it_is_sealed(jobs):
    with jobs.redis_away(), transaction.atomic(), Batch("b", on_success=Say.prepare("success")) as batch:
        SurePart.defer("one")
        refused = SurePart.defer("two")
    Unsent.objects.filter(job_id=refused.id).update(packed=b"unreadable")
    jobs.relay()
    jobs.perform_enqueued_jobs()
    assert not batch.has_ended
    jobs.travel(3600)
    performed = [each for each in jobs.performed_jobs if each.command is SealBatch]
    assert 20 < len(performed) < 120  # it would be 3600
    batch.seal()
    jobs.travel(60)
    jobs.perform_enqueued_jobs()

    assert notes() == ["one", "success b"]


@pytest.mark.parametrize("keep", [None, "ended"])
def test_a_member_that_the_outbox_has_when_it_is_cancelled_never_runs(worker, settings, keep, monkeypatch):
    settings.JOBS = settings.JOBS | {"OUTBOX_KEEP": keep}
    with Batch("b") as batch:
        Part.defer("one")
    with monkeypatch.context() as patch, transaction.atomic(), batch.add():
        patch.setattr(hooks, "send", lambda *_: None)
        late = SurePart.defer("two")
    assert late.state == "unsent"
    batch.cancel()
    send_all()
    run(worker)

    assert notes() == []
    assert batch.counts["cancelled"] == 2
    with pytest.raises(JobFailedError, match="is cancelled"):
        late.wait(5)
    if keep:
        assert worker.client.sismember(keys.OUTBOX_ENDED, late.id)
    else:
        assert not Unsent.objects.filter(job_id=late.id).exists()
