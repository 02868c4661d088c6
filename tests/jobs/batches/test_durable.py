"""Batches of durable jobs: through the outbox."""

import pytest
from django.db import transaction

from jobs import Batch
from jobs.batches import record
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
    client = worker.client
    assert not record.have_arrived(client, batch.id, ["another"])
    members = [job.id for job in batch.jobs()] if record.read(client, batch.id) else []
    assert members == []
    run(worker)

    assert batch.has_succeeded
