"""Under the kit, too, an attempt changes neither the test nor the next attempt."""

import pytest
from django.db import connection, transaction
from django.test import TestCase, TransactionTestCase
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

from jobs import Mandate
from jobs.testing import JobsTestMixin
from tests.sample.commands import leaks
from tests.sample.commands.notes import WriteNote
from tests.sample.models import Note


class WhatAnAttemptLeaves(JobsTestMixin):
    """The tests for every kind of test case with a database."""

    def performed(self, *commands: type[Mandate]):
        """Return the result of the last one."""
        with self.perform_enqueued_jobs(raise_errors=True):
            jobs = [command.defer() for command in commands]
        return jobs[-1].latest_result().return_value

    def test_the_next_job_and_the_test_see_no_effect_of_an_attempt(self):
        before = leaks.shown()
        for command in (leaks.ChangeContext, leaks.ChangeContextAsync, leaks.ChangeAttributes):
            with self.subTest(command.__name__):
                self.assertEqual(self.performed(command, leaks.ShowSurroundings), before)
                self.assertEqual(leaks.shown(), before)

    def test_a_job_has_the_language_it_was_sent_with_and_nothing_else_of_the_test(self):
        with translation.override("de"), timezone.override("Asia/Tokyo"):
            token = leaks.TENANT.set("acme")
            found = self.performed(leaks.ShowSurroundings)
            leaks.TENANT.reset(token)
        self.assertEqual((found["language"], found["zone"], found["tenant"]), ("de", "Asia/Tokyo", "none"))

    def test_a_site_below_a_path(self):
        with self.settings(FORCE_SCRIPT_NAME="/below"):
            self.assertEqual(self.performed(leaks.ShowSurroundings)["prefix"], "/below/")

    def test_a_transaction_that_is_left_open_is_rolled_back_alone(self):
        Note.objects.create(text="of the test")
        depth = len(connection.atomic_blocks)
        for command in (leaks.LeaveTransactionOpen, leaks.LeaveNestedOpen):
            with self.subTest(command.__name__), self.assertLogs("jobs", "ERROR") as log:
                self.assertFalse(self.performed(command, leaks.ShowSurroundings)["wrappers"])
                self.assertIn("has left a transaction", log.output[0])
            self.assertEqual(len(connection.atomic_blocks), depth)
            self.assertEqual(list(Note.objects.values_list("text", flat=True)), ["of the test"])
        with transaction.atomic():
            WriteNote.run("goes on")
        self.assertEqual(Note.objects.count(), 2)

    def test_settings_of_a_tests_connection_stay(self):
        connection.tenant = "of the test"
        try:
            wrapper = connection.execute_wrapper(lambda execute, *args: execute(*args))
            with CaptureQueriesContext(connection) as queries, wrapper:
                self.performed(leaks.ChangeAttributes, leaks.CountQueries)
                self.assertEqual(len(connection.execute_wrappers), 1)
            self.assertIn("SELECT 1", [query["sql"] for query in queries])
            self.assertEqual(connection.tenant, "of the test")
        finally:
            del connection.tenant


class InATestCase(WhatAnAttemptLeaves, TestCase):
    pass


class InATransactionTestCase(WhatAnAttemptLeaves, TransactionTestCase):
    def test_autocommit_is_on_again(self):
        with self.assertLogs("jobs", "ERROR"):
            self.performed(leaks.LeaveAutocommitOff)
        self.assertTrue(connection.get_autocommit())
        self.assertEqual(Note.objects.count(), 0)


@pytest.mark.parametrize("command", [leaks.ChangeContext, leaks.ChangeContextAsync])
@pytest.mark.django_db(transaction=True)
def test_the_tests_own_worker_does_so_too(command, worker):
    before, _, show = leaks.ShowSurroundings.defer(), command.defer(), leaks.ShowSurroundings.defer()
    assert worker.run() == 3

    assert before.latest_result().return_value == show.latest_result().return_value == leaks.shown()
