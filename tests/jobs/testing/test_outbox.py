"""Durable jobs in the testing kit: the scripts are the server's, the rows are in the test's database."""

import pytest
from django.db import transaction
from django.test import TestCase

from jobs.errors import RedisUnavailableError
from jobs.job import JobState
from jobs.models import Unsent
from jobs.testing import JobsTestMixin, Kit
from tests.sample.commands.durable import KeepOnce, KeepRow
from tests.sample.commands.notes import WriteNote
from tests.sample.models import Note


class RollbackError(Exception):
    pass


@pytest.mark.django_db
def test_a_durable_job_is_enqueued_at_the_commit_and_dropped_by_a_rollback(jobs: Kit) -> None:
    with transaction.atomic():
        job = KeepRow.defer("x")
        assert (Unsent.objects.count(), jobs.enqueued_jobs, job.state) == (1, [], JobState.UNSENT)
    jobs.assert_enqueued_with(KeepRow, args=("x",))
    assert not Unsent.objects.exists()
    with pytest.raises(RollbackError), transaction.atomic():
        KeepRow.defer("y")
        raise RollbackError
    jobs.assert_enqueued_jobs(1)
    jobs.perform_enqueued_jobs()
    assert Note.objects.get().text == "x"


def test_outside_a_transaction_it_needs_no_database(jobs: Kit) -> None:
    KeepRow.defer("x")
    jobs.assert_enqueued_with(KeepRow, args=("x",))


@pytest.mark.django_db
def test_while_redis_is_away_it_stays_in_the_outbox_until_the_relay_sends_it(jobs: Kit) -> None:
    with jobs.redis_away():
        with transaction.atomic():
            first = KeepRow.defer("first")
        second = KeepRow.defer("second", prereq_jobs=[first])
        assert (first.state, second.state) == (JobState.UNSENT, JobState.UNSENT)
        with pytest.raises(RedisUnavailableError):
            WriteNote.defer("x")
        with pytest.raises(RedisUnavailableError):
            jobs.relay()
    jobs.assert_no_enqueued_jobs()
    assert jobs.relay() == 2
    assert (first.state, second.state) == (JobState.QUEUED, JobState.WAITING)
    jobs.perform_enqueued_jobs()
    assert [note.text for note in Note.objects.order_by("pk")] == ["first", "second"]
    KeepRow.defer("afterwards")
    assert not Unsent.objects.exists()


@pytest.mark.django_db
def test_a_duplicate_is_known_when_it_is_sent(jobs: Kit) -> None:
    first = KeepOnce.defer("x")
    with jobs.redis_away():
        KeepOnce.defer("x")
    assert jobs.relay() == 1
    jobs.assert_enqueued_jobs(1)
    assert first.state is JobState.QUEUED


class MixinTest(JobsTestMixin, TestCase):
    def test_the_methods_are_the_tests_own(self) -> None:
        with self.redis_away(), transaction.atomic():
            KeepRow.defer("x")
        self.assertEqual(self.relay(), 1)
        self.assert_enqueued_jobs(1)
