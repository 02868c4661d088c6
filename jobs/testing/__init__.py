"""
Testing commands: what was enqueued, and performing it, without a server.

For Django's test cases there is a mixin, for pytest the fixture `jobs` (`pytest_plugins = ["jobs.testing"]` in the root
conftest):

    class SignupTest(JobsTestMixin, TestCase):
        def test_welcome(self):
            self.client.post("/signup/", {...})
            self.assert_enqueued_with(SendWelcomeEmail, queue="mailers")

    def test_welcome(client, jobs):
        client.post("/signup/", {...})
        jobs.assert_enqueued_with(SendWelcomeEmail, queue="mailers")
"""

from collections.abc import Iterator
from typing import Any

import pytest

from jobs.testing.assertions import within
from jobs.testing.idempotence import assert_idempotent
from jobs.testing.kit import Kit
from jobs.testing.recorded import Recorded
from jobs.testing.worker import run_worker

__all__ = ["JobsTestMixin", "Kit", "Recorded", "assert_idempotent", "run_worker", "within"]


def _of_kit(name: str) -> Any:
    return property(lambda self: getattr(self.jobs, name), doc=getattr(Kit, name, None).__doc__)


class JobsTestMixin:
    """Before Django's SimpleTestCase, TestCase or TransactionTestCase: gives each test a kit, `self.jobs`."""

    jobs: Kit

    enqueued_jobs = _of_kit("enqueued_jobs")
    performed_jobs = _of_kit("performed_jobs")
    perform_enqueued_jobs = _of_kit("perform_enqueued_jobs")
    travel = _of_kit("travel")
    assert_enqueued_with = _of_kit("assert_enqueued_with")
    assert_enqueued_jobs = _of_kit("assert_enqueued_jobs")
    assert_no_enqueued_jobs = _of_kit("assert_no_enqueued_jobs")
    assert_performed_with = _of_kit("assert_performed_with")
    assert_performed_jobs = _of_kit("assert_performed_jobs")
    assert_no_performed_jobs = _of_kit("assert_no_performed_jobs")

    def run(self, result: Any = None) -> Any:
        """Run the test, its setUp and tearDown with a kit."""
        with Kit() as self.jobs:
            return super().run(result)  # type: ignore[misc]


@pytest.fixture
def jobs() -> Iterator[Kit]:
    """The kit of this test: its assertions, `perform_enqueued_jobs`, `travel`, `enqueued_jobs`, `performed_jobs`."""
    with Kit() as kit:
        yield kit
