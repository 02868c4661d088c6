"""
Tests commands without a server: asserts which jobs were enqueued, and performs them.

Use the mixin in Django's test cases, and the fixture `jobs` in pytest (`pytest_plugins = ["jobs.testing"]` in the root
conftest, or `-p jobs.testing`):

    class SignupTest(JobsTestMixin, TestCase):
        def test_welcome(self):
            self.client.post("/signup/", {...})
            self.assert_enqueued_with(SendWelcomeEmail, queue="mailers")

    def test_welcome(client, jobs):
        client.post("/signup/", {...})
        jobs.assert_enqueued_with(SendWelcomeEmail, queue="mailers")
"""

from importlib.util import find_spec

from jobs.testing.idempotence import assert_idempotent
from jobs.testing.kit import Kit
from jobs.testing.matching import within
from jobs.testing.mixin import JobsTestMixin
from jobs.testing.recorded import Recorded
from jobs.testing.worker import run_worker

if find_spec("pytest"):  # Django's own test runner works without it
    from jobs.testing.plugin import jobs as jobs

__all__ = ["JobsTestMixin", "Kit", "Recorded", "assert_idempotent", "run_worker", "within"]
