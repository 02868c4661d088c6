"""Atomic commands under the testing kit: the same in a TestCase, which wraps everything in a transaction."""

import pytest
from django.db import connection, transaction
from django.test import TestCase, TransactionTestCase

from jobs.models import Receipt
from jobs.testing import JobsTestMixin
from tests.sample.commands.atomic import Planned, WriteOnce
from tests.sample.commands.notes import WriteNote
from tests.sample.commands.scenes import CancelItself
from tests.sample.models import Note


class WhatHappens(JobsTestMixin):
    def setUp(self):
        WriteOnce.calls.clear()

    def texts(self):
        return sorted(Note.objects.values_list("text", flat=True))

    def test_its_effects_and_its_receipt_are_one(self):
        job = WriteOnce.defer("a")
        self.assertEqual(self.perform_enqueued_jobs(), 1)
        self.assertEqual((job.state, self.texts()), ("finished", ["a"]))
        self.assertEqual(str(Receipt.objects.get().pk), job.id)

    def test_a_failure_is_rolled_back_and_its_retry_performed(self):
        job = WriteOnce.defer("a", "fail_once")
        self.perform_enqueued_jobs()
        self.assertEqual((job.state, self.texts(), Receipt.objects.count()), ("retrying", [], 0))
        self.travel(60)
        self.assertEqual((job.state, self.texts(), Receipt.objects.count()), ("finished", ["a"], 1))

    def test_a_broken_savepoint_and_a_requeue(self):
        with self.perform_enqueued_jobs():
            broken, again = WriteOnce.defer("a", "fail_in_a_savepoint"), WriteOnce.defer("b", "requeue")
        self.assertEqual((broken.state, again.state), ("finished", "finished"))
        self.assertEqual(self.texts(), ["a", "after it", "b"])

    def test_a_job_with_a_receipt_runs_nothing(self):
        job = WriteOnce.defer("a")
        Receipt.objects.create(pk=job.id, result=b'"before"')
        self.perform_enqueued_jobs()
        self.assertEqual((job.state, job.return_value(), self.texts()), ("finished", "before", []))

    def test_what_it_defers_is_enqueued_when_it_commits(self):
        WriteOnce.defer("a", "defer_another")
        WriteOnce.defer("b", "defer_another_and_fail")
        self.perform_enqueued_jobs()
        self.assertEqual(WriteOnce.calls[0], "None")
        self.assert_enqueued_jobs(2, only=WriteNote)

    def test_the_test_goes_on_in_its_transaction(self):
        with transaction.atomic():
            Note.objects.create(text="before")
            WriteOnce.defer("a", "fail")
        self.perform_enqueued_jobs()
        Note.objects.create(text="after")
        self.assertEqual(self.texts(), ["after", "before"])

    def test_one_that_is_cancelled_after_it_has_committed(self):
        job = WriteOnce.defer("a", "cancel")
        plain = CancelItself.defer()
        self.perform_enqueued_jobs()
        self.assertEqual((job.state, plain.state, self.texts()), ("cancelled", "cancelled", ["a"]))
        self.assertEqual([event.name for event in job.history][-2:], ["cancelled", "committed"])
        self.assertEqual(plain.history[-1].name, "cancelled")


class TestInATestCase(WhatHappens, TestCase):
    def test_run(self):
        WriteOnce.run("a")
        with self.assertRaises(Planned):
            WriteOnce.run("b", "fail")
        self.assertEqual((self.texts(), connection.in_atomic_block), (["a"], True))


class TestInATransactionTestCase(WhatHappens, TransactionTestCase):
    pass


@pytest.mark.django_db
def test_with_the_fixture(jobs):
    job = WriteOnce.defer("a")
    jobs.perform_enqueued_jobs()
    assert (job.state, Receipt.objects.count()) == ("finished", 1)
