"""What is written before and after the jobs of a block: a new batch, or a hold on one that exists."""

from typing import Any, NamedTuple

from redis import Redis

from jobs.batches import record
from jobs.client.new_job import new_job
from jobs.record import registry
from jobs.record.new_jobs import NewJob

SEAL = "jobs.SealBatch"  # the command that writes a batch of durable jobs


class NewBatch(NamedTuple):
    """A batch that is written with its jobs."""

    batch_id: str
    name: str
    tags: tuple[str, ...]
    depth: int
    parent: str
    holds_first: bool = False

    def begin(self, client: Redis) -> None:
        """Write the batch. Raises BatchEndedError, BatchNotFoundError of the parent, RedisUnavailableError."""
        record.create(client, self.batch_id, self.name, self.tags, self.depth, self.parent)

    def end(self, client: Redis) -> None:
        """All jobs are written."""
        record.seal(client, self.batch_id)

    def sealer(self, expected: list[str], queue: str) -> NewJob:
        """Return the job that writes the batch, and seals it once the expected members are there."""
        header = {"name": self.name, "tags": list(self.tags), "depth": self.depth, "parent": self.parent}
        return _sealer(queue, self.batch_id, record.CREATOR, expected, header)


class Addition(NamedTuple):
    """Jobs that are added to a batch. `holder`: the member that adds them, or an id of its own."""

    batch_id: str
    holder: str
    depth: int
    holds_first: bool = True

    def begin(self, client: Redis) -> None:
        """Hold the batch open. Raises BatchEndedError, BatchNotFoundError, RedisUnavailableError."""
        record.hold(client, self.batch_id, self.holder)

    def end(self, client: Redis) -> None:
        """Hold it open no longer."""
        record.seal(client, self.batch_id, self.holder)

    def sealer(self, expected: list[str], queue: str) -> NewJob:
        """Return the job that ends the hold once the expected members are there."""
        return _sealer(queue, self.batch_id, self.holder, expected, None)


def _sealer(queue: str, batch_id: str, holder: str, expected: list[str], header: dict[str, Any] | None) -> NewJob:
    command: Any = registry.get(SEAL)
    return new_job(command, (batch_id, holder, expected, header), {}, queue=queue)
