"""The kit in pytest: the fixture `jobs`."""

from collections.abc import Iterator

from jobs.errors import MissingExtraError
from jobs.testing.kit import Kit

try:
    import pytest
except ImportError as error:
    raise MissingExtraError("The fixture `jobs`", "pytest", "testing") from error


@pytest.fixture
def jobs() -> Iterator[Kit]:
    """The kit of this test: its assertions, `perform_enqueued_jobs`, `travel`, `enqueued_jobs`, `performed_jobs`."""
    with Kit() as kit:
        yield kit
