"""The kit of one test: while it is open, every job of this context is kept in memory, and no server is used."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from jobs.outbox.relay import send_all
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

    @contextmanager
    def redis_away(self) -> Iterator[None]:
        """
        Until the block ends, Redis does not answer: durable jobs stay in the outbox, which needs a test with a
        database; `defer` of others raises RedisUnavailableError.
        """
        before, self.memory.is_away = self.memory.is_away, True
        try:
            yield
        finally:
            self.memory.is_away = before

    def relay(self) -> int:
        """Send the durable jobs that are unsent, as a worker does. Returns how many were sent."""
        with patches.showing(self):
            return send_all()

    def interrupt(self, command: type, *, at: str | None = None, after: int = 0) -> None:
        """
        Have the next attempt of a command end at a checkpoint, as when its worker stops: that of the step `at` at which
        `after` items or more are done; without `at`, the first one. The job is queued again, and the next
        `perform_enqueued_jobs` goes on from there.

        Raises TypeError for what is no command. When the kit is closed, AssertionError if no attempt has come there.
        """
        self.strikes.add(command, at, after, kills=False)

    def kill(self, command: type, *, at: str | None = None, after: int = 0) -> None:
        """
        `interrupt`, as when its worker is killed with -9: what was not written is lost. That is what the attempt has
        done in its last second, and the chunk that it is in.
        """
        self.strikes.add(command, at, after, kills=True)

    def __exit__(self, kind: object = None, *error: object) -> None:
        patches.leave(self)
        if kind is None:
            self.strikes.assert_none_left()
