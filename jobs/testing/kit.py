"""The kit of one test: while it is open, every job of this context is kept in memory, and no server is used."""

from typing import Self

from jobs.testing import patches
from jobs.testing.assertions import Assertions


class Kit(Assertions):
    """
    The kit that the fixture `jobs` and `JobsTestMixin` provide; elsewhere, use `with Kit() as jobs:`.

    `enqueued_jobs` has every push: new jobs, requeues and retries, whether they were performed or not. `performed_jobs`
    has every attempt. Arguments go through JSON both ways.
    """

    def __enter__(self) -> Self:
        patches.enter(self)
        return self

    def __exit__(self, *error: object) -> None:
        patches.leave(self)
