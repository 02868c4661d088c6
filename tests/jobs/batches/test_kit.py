"""Batches in the testing kit: the same scripts, in memory."""

import pytest

from jobs import Batch, Workflow
from tests.jobs.batches.test_batch import notes
from tests.sample.commands.batches import AddParts, OpenChild, Part, Say
from tests.sample.commands.flows import Add, Fetch, Tell
from tests.sample.models import Note

pytestmark = pytest.mark.django_db


def test_a_batch_is_asserted_and_its_callbacks_are_performed(jobs):
    with Batch("b", on_success=Say.prepare("success"), on_complete=Say.prepare("complete")):
        Part.defer("one")
        AddParts.defer(["two"])
        with Batch("child"):
            OpenChild.defer("grandchild", ["three"])

    batch = jobs.assert_batch("b", jobs=3, on_success=Say, on_complete=Say, on_dead=None)
    jobs.assert_batch("child", jobs=1)
    for _ in range(4):
        jobs.perform_enqueued_jobs()

    assert batch.has_succeeded and notes() == ["complete b", "done grandchild", "one", "success b", "three", "two"]
    assert batch.counts["finished"] == 4 and len(list(batch.jobs())) == 3


def test_jobs_are_performed_at_once(jobs):
    with jobs.perform_enqueued_jobs(), Batch("b", on_success=Say.prepare("success")):
        Part.defer("one")

    assert notes() == ["one", "success b"]


def test_what_differs_is_named(jobs):
    with pytest.raises(AssertionError, match="There was none"):
        jobs.assert_batch("b")
    with Batch("b", on_success=Say.prepare("success")), Batch("c"):
        Part.defer("one")
    with pytest.raises(AssertionError, match="on_success: expected None, was sample.Say\n    jobs: expected 2, was 1"):
        jobs.assert_batch("b", jobs=2, on_success=None)


def test_a_batch_is_cancelled_and_retried(jobs):
    Note.objects.create(text="bad")
    with Batch("b", on_dead=Say.prepare("dead")) as batch:
        Part.defer("one", "bad")
        Part.defer("two", "bad")
    jobs.perform_enqueued_jobs()
    assert batch.retry_dead() == 2 and [error.number for error in batch.errors()] == []
    assert batch.cancel() == 2 and batch.has_ended
    jobs.perform_enqueued_jobs()

    assert notes() == ["bad", "dead b"]


def test_a_flow_is_asserted_and_performed(jobs):
    with pytest.raises(AssertionError, match="There was none"):
        jobs.assert_flow("f", {})
    with Workflow("f", on_success=Say.prepare("success")):
        pass
    with Workflow("g") as flow:
        added = flow.add(Add, flow.add(Fetch, 4).result)
        flow.add(Tell, added.result)
    assert jobs.assert_flow("g", {"Fetch": (), "Add": {"Fetch"}, "Tell": {"Add"}}).id == flow.id
    with pytest.raises(AssertionError, match="'g': {'Fetch': set"):
        jobs.assert_flow("g", {"Fetch": ()})
    jobs.perform_enqueued_jobs()
    assert notes() == ["6", "success f"] and flow.has_succeeded
