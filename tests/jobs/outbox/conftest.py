"""A server that goes away and comes back, and the rows of the outbox."""

from collections.abc import Callable, Iterator

import pytest

from jobs.models import Unsent
from jobs.outbox import hooks
from jobs.outbox.relay import send_all


@pytest.fixture(autouse=True)
def forget_failures() -> Iterator[None]:
    """What a test did to the server does not make the next one leave its jobs to the relay."""
    hooks._failed.clear()
    hooks._noted.clear()
    yield
    hooks._failed.clear()


@pytest.fixture
def relay() -> Callable[[], int]:
    """Send all rows, as a worker does after two seconds. Returns how many there were."""

    def send() -> int:
        hooks._failed.clear()
        return send_all()

    return send


@pytest.fixture
def rows() -> Callable[[], list[str]]:
    """The ids of the jobs in the outbox, in the order of the rows."""
    return lambda: list(Unsent.objects.order_by("id").values_list("job_id", flat=True))
