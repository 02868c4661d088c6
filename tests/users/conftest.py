"""What the tests of accounts share."""

from collections.abc import Callable
from typing import Any

import pytest

from jobs.queues import get_queue
from users.models import User

PASSWORD = "quilt-zebra-42"


@pytest.fixture
def user(db: None) -> User:
    return User.objects.create_user("Learner@example.org", PASSWORD)


@pytest.fixture
def mailer_jobs() -> Callable[[], list[tuple[str, list[Any]]]]:
    """What waits in the mailers queue: each job's command and arguments."""
    return lambda: [(job.command_name, job.command_args) for job in get_queue("mailers").jobs]
