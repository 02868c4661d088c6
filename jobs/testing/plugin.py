"""The kit in pytest: the fixture `jobs`."""

from collections.abc import Iterator

import pytest

from jobs.testing.kit import Kit


@pytest.fixture
def jobs() -> Iterator[Kit]:
    """The kit of this test: its assertions, `perform_enqueued_jobs`, `travel`, `enqueued_jobs`, `performed_jobs`."""
    with Kit() as kit:
        yield kit
